"""Finding and ending processes, from /proc.

A pid alone says nothing: it is used again. A process is known by pid and start time, and the
engine's processes by a mark in their environment, which all their descendants inherit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

MARK = "EVOLOOM_ENGINE"
"""Environment variable that marks a process as part of an engine; its value names the state."""

UP_MARK = "_EVOLOOM_UP"
"""Environment variable that marks a process as started, directly or not, by `evoloom up`; its value
names the state. No setting's name begins so. An engine and its watchdog have none: they belong to
whoever leases them."""

FLOW_RUN = "PREFECT__FLOW_RUN_ID"
"""Environment variable by which the process of a flow run knows which it is."""
OWNERS = frozenset({UP_MARK, FLOW_RUN})
"""Variables that say whose a process is."""

_PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if there is no such process."""
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def find_marked(value: str, variable: str = MARK) -> set[int]:
    """Pids of this user's living processes whose environment holds the variable with this value."""
    wanted = f"{variable}={value}".encode()
    return {
        pid
        for pid in _pids()
        if wanted in _environment(pid).split(b"\0") and start_time(pid) is not None
    }


def stop_marked(value: str, group: int | None, grace_s: float) -> None:
    """End all marked processes and a process group: SIGTERM, then SIGKILL after `grace_s` seconds.

    Args:
        value: the value of their mark.
        group: process group led by a child of the caller; its members are ended even where their
            environment cannot be read.
        grace_s: seconds from the one signal to the other.
    """
    deadline = time.monotonic() + grace_s
    signal_number = signal.SIGTERM
    signalled: set[int] = set()
    while alive := find_marked(value) | _group_members(group):
        if time.monotonic() >= deadline and signal_number != signal.SIGKILL:
            signal_number, signalled = signal.SIGKILL, set()
        # Once each: to some programs a second SIGTERM means to drop everything at once.
        for pid in alive - signalled:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal_number)
        signalled |= alive
        time.sleep(_POLL_S)


def parent(pid: int) -> int | None:
    """Pid of a process's parent; None if there is no such process."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def die_with_parent(signal_number: signal.Signals) -> Callable[[], None]:
    """A function for the child, between fork and exec: have the kernel signal it when we die."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        if os.getppid() != parent:  # It died before the request; no signal will come.
            os._exit(1)

    return ask_kernel


def _pids() -> list[int]:
    try:
        return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _environment(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # Gone, or another user's.
        return b""


def _group_members(group: int | None) -> set[int]:
    if group is None:
        return set()
    stats = {pid: _stat(pid) for pid in _pids()}
    return {
        pid
        for pid, fields in stats.items()
        if fields is not None and fields[0] != "Z" and int(fields[2]) == group
    }


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third (state) on; the second, the name, may hold spaces."""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
