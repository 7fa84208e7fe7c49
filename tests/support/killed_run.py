"""Counted events of a run, and SIGKILL at one of them.

`install(EVENT, NUMBER)` patches what writes, in this process. At the NUMBER-th EVENT the process
sends itself SIGKILL; a `half` event is inside a write, half of whose bytes are in the file by then.
`commit.inside` is inside DuckDB's own write of its log: the kernel ends the process when the log
grows past half of what a transaction adds (RLIMIT_FSIZE; the signal is SIGXFSZ, as sudden).
"""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EVENTS = (
    "journal.before", "journal.half", "journal.written", "journal.synced",
    "spool.before", "spool.half", "spool.written",
    "commit.before", "commit.inside", "commit.after",
    "publish.copied", "publish.signed", "publish.renamed", "publish.linked",
)  # fmt: skip
DEATHS = (-signal.SIGKILL, -signal.SIGXFSZ)
_LOG_BYTES = 2_000
"""Of DuckDB's log; every transaction of a run writes more."""


class _Kill:
    def __init__(self, event: str, number: int, counts: Path | None) -> None:
        self.event, self.number, self.counts = event, number, counts
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()

    def point(self, event: str) -> bool:
        """Count an event; kill here, or say True where the caller has to do the killing."""
        with self.lock:
            self.seen[event] += 1
            if self.counts is not None:
                self.counts.write_text(" ".join(f"{k}={v}" for k, v in sorted(self.seen.items())))
            if event != self.event or self.seen[event] != self.number:
                return False
        if event.endswith((".half", ".inside")):
            return True
        _die()
        return False


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def install(event: str, number: str, counts: str = "") -> None:
    """Patch everything that is counted; with `counts` the numbers are kept in that file."""
    assert not event or event in EVENTS, event
    kill = _Kill(event, int(number), Path(counts) if counts else None)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it otherwise
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _count_appends(kill)
    _count_commits(kill)
    _count_publishes(kill)


def _count_appends(kill: _Kill) -> None:
    from store import checked_lines

    kept_init = checked_lines.AppendFile.__init__
    kept_write = checked_lines.AppendFile.write
    kept_sync = checked_lines.AppendFile.sync

    def init(self: Any, path: Path, valid_end: int) -> None:
        kept_init(self, path, valid_end)
        self.kind = path.name

    def write(self: Any, data: bytes) -> None:
        kill.point(f"{self.kind}.before")
        if kill.point(f"{self.kind}.half"):
            os.write(self._fd, data[: len(data) // 2])
            _die()
        kept_write(self, data)
        kill.point(f"{self.kind}.written")

    def sync(self: Any) -> None:
        kept_sync(self)
        if self.kind == "journal":
            kill.point("journal.synced")

    checked_lines.AppendFile.__init__ = init  # type: ignore[method-assign]
    checked_lines.AppendFile.write = write  # type: ignore[method-assign]
    checked_lines.AppendFile.sync = sync  # type: ignore[method-assign]


def _count_commits(kill: _Kill) -> None:
    ingest: Any = importlib.import_module("store.ingest")
    kept = ingest.transaction

    @contextmanager
    def transaction(connection: Any) -> Iterator[None]:
        with kept(connection):
            yield
            kill.point("commit.before")
            if kill.point("commit.inside"):
                resource.setrlimit(resource.RLIMIT_FSIZE, (_LOG_BYTES, _LOG_BYTES))
        kill.point("commit.after")

    ingest.transaction = transaction


def _count_publishes(kill: _Kill) -> None:
    snapshot: Any = importlib.import_module("store.snapshot")

    class Shutil:
        @staticmethod
        def copyfile(source: Path, target: Path) -> None:
            shutil.copyfile(source, target)
            kill.point("publish.copied")

    class Os:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def replace(self, source: Path, target: Path) -> None:
            if target == snapshot.snapshot_link(_store_of(target)):
                os.replace(source, target)
                kill.point("publish.linked")
                return
            kill.point("publish.signed")
            os.replace(source, target)
            kill.point("publish.renamed")

    snapshot.shutil = Shutil()
    snapshot.os = Os()


def _store_of(target: Path) -> Path:
    return target.with_name("evoloom.duckdb")
