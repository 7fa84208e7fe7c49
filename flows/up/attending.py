"""A worker that takes its runs with it: for a container, in which nothing lives on without it.

Prefect's worker that is told to end leaves its flows alone. Where its end is the end of all that it has
started, as in a container, they are told too, and have their grace time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from types import FrameType

from flows.up.runs import adopt_orphans, reap_orphans, stop_runs
from pipeline.teacher.processes import UP_MARK, die_with_parent

_LOOK_EVERY_S = 0.2


def attend(argv: Sequence[str], grace_s: float, say: Callable[[str], None]) -> int:
    """Run a worker until it ends or SIGTERM or SIGINT comes, then stop its runs with grace; a second
    signal ends them at once.

    Args:
        argv: the worker's command.
        grace_s: what runs have for what is in flight (`run.grace_s`).

    Returns:
        The exit code: the worker's, 0 after a signal.
    """
    signals: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        signals.append(number)

    mark = f"worker-{uuid.uuid4().hex}"
    adopt_orphans()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    worker = subprocess.Popen(
        argv, env={**os.environ, UP_MARK: mark}, start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGKILL),
    )  # fmt: skip
    while not signals and worker.poll() is None:
        reap_orphans({worker.pid})
        time.sleep(_LOOK_EVERY_S)
    stop_runs(mark, {worker.pid}, (), grace_s, say, lambda: len(signals) > 1)
    code = worker.wait()
    return 0 if signals else code or 1
