"""`evoloom train` that gets a signal at a chosen step, the moment its metrics are written; or at its
end, after the last checkpoint and before the adapter is written.

    python -m tests.support.signalled_training SIGNAL STEP|end train ...

Everything but the moment is real: the process, the signal, the files it leaves.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from flows import cli
from pipeline.student import reporting, training


def main() -> None:
    number, moment = signal.Signals[sys.argv.pop(1)], sys.argv.pop(1)
    write = reporting.MetricsFile.write

    def write_and_signal(self: reporting.MetricsFile, line: Mapping[str, Any]) -> None:
        write(self, line)
        if moment == str(line["step"]) and "loss" in line:
            os.kill(os.getpid(), number)

    if moment == "end":
        training._Training._finish = lambda *_: os.kill(os.getpid(), number)  # type: ignore[method-assign]
    reporting.MetricsFile.write = write_and_signal  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
