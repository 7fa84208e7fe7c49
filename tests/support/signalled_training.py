"""`evoloom train` that gets a signal at a chosen step, the moment its metrics are written; while it
measures the base; or at its end, after the last checkpoint and before the adapter is written.

    python -m tests.support.signalled_training SIGNAL STEP|base|end train ...

Everything but the moment is real: the process, the signal, the files it leaves.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from flows import cli
from pipeline.student import loop, reporting, training


def main() -> None:
    number, moment = signal.Signals[sys.argv.pop(1)], sys.argv.pop(1)
    write, loss_sum = reporting.MetricsFile.write, loop.loss_sum

    def write_and_signal(self: reporting.MetricsFile, line: Mapping[str, Any]) -> None:
        write(self, line)
        if moment == str(line["step"]) and "loss" in line:
            os.kill(os.getpid(), number)

    def measure_and_signal(*given: Any) -> Any:
        loop.loss_sum = loss_sum  # told once: a second time would mean at once
        os.kill(os.getpid(), number)
        return loss_sum(*given)

    if moment == "base":
        loop.loss_sum = measure_and_signal  # type: ignore[assignment]
    if moment == "end":
        training._Training._finish = lambda *_: os.kill(os.getpid(), number)  # type: ignore[method-assign]
    reporting.MetricsFile.write = write_and_signal  # type: ignore[method-assign]
    cli.main()


if __name__ == "__main__":
    main()
