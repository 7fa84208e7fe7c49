"""A child process that does one thing to a store and is killed at a counted point of it.

    python -m tests.support.killed STORE ACTION KILL_AT

ACTION is `ingest`, `publish`, `rebuild` or `prune`, or `nights`: run after run is written, ingested and
published, its generation printed, until somebody kills the process from outside. A point is a line
of code of the modules that write, about to be run; at the KILL_AT-th the process sends itself
SIGKILL. With KILL_AT 0 nothing is killed and the number of points is printed. A line of code is what
a kill from outside falls between; kills inside DuckDB's own commit are covered by its log, not here.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from flows import retention
from store import database, pruning, rebuild, snapshot
from store import ingest as ingest_module
from store.run_directory import list_run_ids, runs_directory
from tests.support.run_directories import SyntheticRun, write_run

_WRITERS = {module.__file__ for module in
            (database, ingest_module, rebuild, snapshot, pruning, retention)}  # fmt: skip
CHUNK_BATCHES = 20


def main(store_path: Path, action: str, kill_at: int) -> None:
    """Do it, counting."""
    ingest_module.CHUNK_BATCHES = CHUNK_BATCHES
    count = 0

    def on_line(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        return on_line if frame.f_code.co_filename in _WRITERS else None

    if action == "nights":
        publish_nights(store_path)
    actions: dict[str, Callable[[Path], object]] = {
        "ingest": ingest_module.ingest,
        "publish": snapshot.publish,
        "rebuild": rebuild.rebuild,
        "prune": lambda path: retention.prune(path, retention.parse_age("30d")),
    }
    sys.settrace(on_call)
    actions[action](store_path)
    sys.settrace(None)
    print(count)


def publish_nights(store_path: Path) -> None:
    """Publish for ever, a run at a time."""
    for number in itertools.count(len(list_run_ids(runs_directory(store_path)))):
        write_run(store_path, SyntheticRun(f"night-{number}", positions=4, seed=number))
        ingest_module.ingest(store_path)
        print(snapshot.publish(store_path).generation, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
