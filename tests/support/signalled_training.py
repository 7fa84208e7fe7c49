"""`evoloom train` that gets a signal at a chosen step, the moment its metrics are written.

    python -m tests.support.signalled_training SIGNAL STEP train ...

Everything but the moment is real: the process, the signal, the files it leaves.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from flows import cli
from pipeline.student import reporting


def main() -> None:
    number, step = signal.Signals[sys.argv.pop(1)], int(sys.argv.pop(1))
    write = reporting.MetricsFile.write

    def write_and_signal(self: reporting.MetricsFile, line: Mapping[str, Any]) -> None:
        write(self, line)
        if line["step"] == step and "loss" in line:
            os.kill(os.getpid(), number)

    reporting.MetricsFile.write = write_and_signal  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
