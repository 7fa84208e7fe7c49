"""Starts the processes that train together, follows their progress, and stops them with grace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pipeline
from pipeline.errors import EvoloomError
from pipeline.student.launching import (
    END_FILE,
    STOP_FILE,
    launch_command,
    launch_environment,
)
from pipeline.student.planning import count_processes, find_device
from pipeline.student.settings import TrainingSettings
from pipeline.student.worker import OWNER_VARIABLE

_POLL_S = 0.2
_LOG = "processes.log"


def train_in_processes(
    run_dir: Path,
    settings: TrainingSettings,
    should_stop: Callable[[], str | None],
    on_record: Callable[[dict[str, Any]], None],
    *,
    progress_interval_s: float,
) -> tuple[str, str | None]:
    """Train a run directory to its end or interruption; gives the state and the reason.

    Raises:
        EvoloomError: a process failed; the message says where its output is.
    """
    for name in (STOP_FILE, END_FILE):
        (run_dir / name).unlink(missing_ok=True)
    settings_file = run_dir / ".settings.json"
    settings_file.write_text(settings.model_dump_json())
    command = launch_command(
        run_dir, settings_file, count_processes(settings), _free_port(), progress_interval_s
    )
    progress = _Progress(run_dir / "progress.jsonl")
    root = str(Path(pipeline.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        **launch_environment(find_device()),
        OWNER_VARIABLE: str(os.getpid()),
        "PYTHONPATH": path,
    }
    with (run_dir / _LOG).open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        while process.poll() is None:
            if (reason := should_stop()) and not (run_dir / STOP_FILE).exists():
                (run_dir / STOP_FILE).write_text(reason)
            progress.pass_on(on_record)
            time.sleep(_POLL_S)
    except BaseException:  # told to stop at once
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        settings_file.unlink(missing_ok=True)
        (run_dir / STOP_FILE).unlink(missing_ok=True)
    progress.pass_on(on_record)
    end = json.loads((run_dir / END_FILE).read_text()) if (run_dir / END_FILE).exists() else {}
    (run_dir / END_FILE).unlink(missing_ok=True)
    if "state" in end:
        return end["state"], end["reason"]
    if "error" in end:
        raise EvoloomError(end["error"])
    raise EvoloomError(
        f"training {run_dir.name}: a process ended with code {process.returncode}; see "
        f"{run_dir / _LOG}. `evoloom resume {run_dir.name}` goes on from the last checkpoint"
    )


class _Progress:
    """Passes on the records that the first process appends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def pass_on(self, on_record: Callable[[dict[str, Any]], None]) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError):
                on_record(json.loads(line))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
