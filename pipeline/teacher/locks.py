"""File locks that die with their holder.

All locks are `flock`: the kernel frees them when the last descriptor of the opened file closes,
however the process ends. They are polled, never waited for in the kernel, so that a user can be
interrupted and told what it waits for.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.1


def open_lock(path: Path) -> int:
    """A descriptor on the lock file, made when missing; closed in every program it starts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def try_lock(descriptor: int, operation: int) -> bool:
    """Whether the lock (`fcntl.LOCK_SH` or `LOCK_EX`) was free and is now held."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock exclusively. Never disturbs the holder."""
    if not path.exists():
        return False
    descriptor = open_lock(path)
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextmanager
def hold_exclusively(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock at `path`; `on_wait` is told once when another process has it."""
    descriptor = open_lock(path)
    try:
        if not try_lock(descriptor, fcntl.LOCK_EX):
            on_wait(f"waiting for another process that holds {path}")
            while not try_lock(descriptor, fcntl.LOCK_EX):
                time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def count_shared_holders(path: Path) -> int | None:
    """How many hold the lock shared, from /proc/locks; None where that cannot be told."""
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    holders = 0
    for line in lines:
        # "12: FLOCK  ADVISORY  READ 4711 fd:01:131083 0 EOF"; a waiting request has "->" second.
        fields = line.split()
        if fields[1:4] == ["FLOCK", "ADVISORY", "READ"]:
            holders += fields[5].rsplit(":", 1)[-1] == str(inode)
    return holders
