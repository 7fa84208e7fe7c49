"""The process that `evoloom teacher start` leaves behind: it holds a lease until `stop`.

It inherits two locked descriptors, of lease.lock and holder.lock, and only keeps them open.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.teacher import processes
from pipeline.teacher.engine_state import EngineFolder, write_json
from pipeline.teacher.locks import POLL_S, is_locked


def main(arguments: list[str]) -> None:
    """Detach, write down who we are, and wait for SIGTERM."""
    folder = EngineFolder(Path(arguments[0]))
    if pid := os.fork():
        # Before we end, so that whoever started us finds the record.
        write_json(folder.holder_record, {"pid": pid, "start": processes.start_time(pid)})
        os._exit(0)
    # The default action of SIGTERM ends us, and the kernel frees both locks.
    while True:
        signal.pause()


def is_held(folder: EngineFolder) -> bool:
    """Whether `evoloom teacher start` keeps this engine running."""
    return is_locked(folder.holder_lock)


def stop_holders(state_dir: Path, wait_s: float) -> list[EngineFolder]:
    """End every holder below `state_dir`; returns the engines they held.

    All of them, since the settings may have changed between `start` and `stop`.

    Args:
        state_dir: the folder of the engines' folders.
        wait_s: seconds until one that does not react is killed.
    """
    return [folder for folder in _folders(state_dir) if is_held(folder) and _stop(folder, wait_s)]


def _folders(state_dir: Path) -> Iterator[EngineFolder]:
    for lock in sorted(state_dir.glob("*/holder.lock")):
        yield EngineFolder(lock.parent)


def _stop(folder: EngineFolder, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    stopped = False
    while is_held(folder):
        # A holder that has only just been started may not have written its record yet.
        if pid := _pid_of_holder(folder):
            late = time.monotonic() >= deadline
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            stopped = True
        elif time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    folder.holder_record.unlink(missing_ok=True)
    return stopped


def _pid_of_holder(folder: EngineFolder) -> int | None:
    try:
        record = json.loads(folder.holder_record.read_text())
        pid, start = int(record["pid"]), int(record["start"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if processes.start_time(pid) == start else None


if __name__ == "__main__":
    main(sys.argv[1:])
