"""The processes of runs that were started under `evoloom up`, by a worker or by the API.

They outlive their worker: a flow's process goes on when its worker is killed, the process that executes
the run goes on when its flow is. `down` ends them all, each told once and given its grace time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection

from flows.following import AFTER_GRACE_S
from pipeline.teacher import processes

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.1


def marked(mark: str) -> set[int]:
    """The living processes that `evoloom up` has started, and whatever they have started; engines
    and their watchdogs left out."""
    return processes.find_marked(mark, processes.UP_MARK) - {os.getpid()}


def adopt_orphans() -> None:
    """Become the parent of processes whose parent dies, where the kernel can do that: nobody else
    may be there to take note of their end."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(own: Collection[int]) -> None:
    """Take note of the end of adopted processes; `own` are waited for by others."""
    with contextlib.suppress(ChildProcessError):
        for _ in range(100):
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None or ended.si_pid in own:
                return
            os.waitpid(ended.si_pid, os.WNOHANG)


def stop_runs(
    mark: str,
    workers: Collection[int],
    others: Collection[int],
    grace_s: float,
    say: Callable[[str], None],
    is_urgent: Callable[[], bool] = lambda: False,
) -> None:
    """Have workers and runs end with grace, and wait until they are gone.

    A worker that gets SIGTERM ends and leaves its flows alone; a flow passes it on to the process of
    its run, to which a second one means to drop what is in flight. So each is told by one only: here,
    where nobody above it is told but a worker.

    Args:
        workers: processes of workers, to be told too.
        others: marked processes that are to go on.
        grace_s: what runs have for what is in flight (`run.grace_s`).
        is_urgent: True ends the grace time.
    """
    deadline = time.monotonic() + grace_s + AFTER_GRACE_S
    told: set[int] = set()
    is_said = False
    while left := marked(mark) - set(others):
        if time.monotonic() >= deadline or is_urgent():
            for pid in left:
                _send(pid, signal.SIGKILL)
        runs = left - set(workers)
        if runs and not is_said:
            say(f"stopping {len(runs)} processes of runs, within {grace_s + AFTER_GRACE_S:g} s")
            is_said = True
        for pid in sorted(left - told, key=lambda pid: pid not in workers):
            if pid in told or processes.parent(pid) in left - set(workers):
                continue
            _send(pid, signal.SIGTERM)
            told |= {pid} if pid in workers else _below(pid, left)
        reap_orphans(others)
        time.sleep(_POLL_S)


def _below(pid: int, among: Collection[int]) -> set[int]:
    found = {pid}
    while more := {each for each in among if processes.parent(each) in found} - found:
        found |= more
    return found


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
