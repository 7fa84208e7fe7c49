"""One of several processes that train together; `accelerate launch` starts them.

    python -m pipeline.student.worker RUN_DIR SETTINGS_FILE PROGRESS_INTERVAL_S

They are told to stop by a file in the run directory, and stop too when whoever started them is gone:
only that process holds the run.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from pipeline.errors import EvoloomError
from pipeline.student.launching import END_FILE, STOP_FILE
from pipeline.student.settings import TrainingSettings

OWNER_VARIABLE = "EVOLOOM_TRAINING_OWNER"
"""The process id of the owner of the run; read here, never a setting."""


def main() -> int:
    """Train, and say how it ended in END_FILE; returns the exit code."""
    run_dir, settings_file, interval_s = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    # The owner is told by signals, and tells by the file.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    owner = int(os.environ.pop(OWNER_VARIABLE, "0"))

    def should_stop() -> str | None:
        stop = run_dir / STOP_FILE
        if stop.exists():
            return stop.read_text().strip() or "stopped"
        return None if owner == 0 or Path(f"/proc/{owner}").exists() else "owner gone"

    from pipeline.student.trained import write_json
    from pipeline.student.training import train

    settings = TrainingSettings.model_validate_json(settings_file.read_text())
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        end = train(run_dir, settings, should_stop=should_stop, progress_interval_s=interval_s)
    except EvoloomError as exc:
        if is_first:
            write_json(run_dir / END_FILE, {"error": str(exc), "exit_code": exc.exit_code})
        return exc.exit_code
    if is_first:
        write_json(run_dir / END_FILE, {"state": end.state, "reason": end.reason})
    return 0


if __name__ == "__main__":
    sys.exit(main())
