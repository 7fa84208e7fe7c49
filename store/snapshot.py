"""The published snapshot: what analysts open, at any time, for as long as they like.

A snapshot is a file of its own, `<stem>.snapshot-<generation>.duckdb`, complete before it has its
name and never changed afterwards; `<stem>.snapshot.duckdb` is a symbolic link to the newest, moved
atomically. A reader keeps the file it opened, also after it was removed.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb

from pipeline.errors import UsageError
from store import checked_lines
from store.database import (
    INGEST_COMMAND,
    StoreError,
    assert_no_wal,
    fsync_file,
    open_live,
    temporary_path,
    wal_path,
    writer_lock,
)
from store.schema import latest_version

KEPT_GENERATIONS = 2
"""Snapshots kept: the newest, and the one that a reader may just be opening."""

_READER_SETTINGS = (
    # Nothing may be downloaded behind the user's back.
    "SET GLOBAL autoinstall_known_extensions = false",
    "SET GLOBAL autoload_known_extensions = false",
    # The store's times are UTC without a zone, so that `now() - taken_at` is right everywhere.
    "SET GLOBAL TimeZone = 'UTC'",
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A published snapshot: its file, its number, when it was taken (UTC) and of which runs."""

    path: Path
    generation: int
    taken_at: datetime
    run_ids: tuple[str, ...]


def snapshot_link(store_path: Path) -> Path:
    """The name that analysts open."""
    return store_path.with_name(f"{_stem(store_path)}.snapshot.duckdb")


def publish(store_path: Path, *, wait_s: float | None = None) -> Snapshot:
    """Publish the live file as it is now.

    Raises:
        StoreBusyError: another process has the live file open; the last snapshot stays.
        StoreError: the copy cannot be written; the last snapshot stays.
    """
    with writer_lock(store_path, "publish"):
        with open_live(store_path, wait_s=wait_s):
            pass  # opening replays a log that a kill left, closing checkpoints
        assert_no_wal(store_path, store_path)
        try:
            return _publish_closed(store_path)
        except (OSError, duckdb.Error) as exc:
            raise StoreError(f"{store_path}: the snapshot cannot be written: {exc}") from exc


def open_snapshot(store_path: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection to the newest snapshot.

    The link is resolved first, so that the connection is to a file that is never replaced: within one
    process DuckDB shares what is open under one path, whatever has been moved there since.

    Raises:
        UsageError: nothing has been published yet.
    """
    return _open_newest(store_path)[1]


class SnapshotReader:
    """A long-lived reader that moves over when a new snapshot is published; a context manager.

    `current` gives a connection of the caller's own to the newest snapshot. One taken earlier goes
    on reading its snapshot until it is closed, also when the file has been removed meanwhile. It may
    be used from several threads.
    """

    def __init__(self, store_path: Path) -> None:
        self._store_path = store_path
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def current(self) -> duckdb.DuckDBPyConnection:
        """A new connection to the newest snapshot; the caller closes it.

        Raises:
            UsageError: nothing has been published yet.
        """
        with self._lock:
            return self._newest().cursor()

    def snapshot(self) -> Snapshot:
        """What the newest snapshot says of itself.

        Raises:
            UsageError: nothing has been published yet.
        """
        with self._lock:
            connection = self._newest()
            assert self._path is not None
            return _describe(self._store_path.with_name(self._path.name), connection)

    def close(self) -> None:
        """Let go of the snapshot; connections that were given out stay open."""
        with self._lock:
            # Not closed: DuckDB would close the cursors that were given out with it.
            self._connection = self._path = None

    def _newest(self) -> duckdb.DuckDBPyConnection:
        if self._connection is not None and snapshot_link(self._store_path).resolve() == self._path:
            return self._connection
        self._path, self._connection = _open_newest(self._store_path)
        return self._connection


def read_snapshot(store_path: Path) -> Snapshot:
    """What the newest snapshot says of itself.

    Raises:
        UsageError: nothing has been published yet.
    """
    path, connection = _open_newest(store_path)
    with connection:
        return _describe(store_path.with_name(path.name), connection)


def is_current(store_path: Path) -> bool:
    """Whether there is a snapshot that has the tables and views of this evoloom's schema."""
    try:
        with open_snapshot(store_path) as connection:
            row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
    except (UsageError, StoreError, duckdb.Error):
        return False
    return row is not None and row[0] == latest_version()


def _open_newest(store_path: Path) -> tuple[Path, duckdb.DuckDBPyConnection]:
    link = snapshot_link(store_path)
    for _ in range(10):  # two publishes between resolving and opening remove the file just found
        path = link.resolve()
        if not path.exists():
            continue
        try:
            connection = duckdb.connect(path, read_only=True)
        except duckdb.Error as exc:
            if path.exists():
                raise StoreError(f"{path}: the snapshot cannot be opened: {exc}") from exc
            continue
        for setting in _READER_SETTINGS:
            connection.execute(setting)
        return path, connection
    raise UsageError(
        f"{link}: no snapshot has been published yet; every command that writes publishes one, or "
        f"type `{INGEST_COMMAND} --store {store_path}`"
    )


def _describe(path: Path, connection: duckdb.DuckDBPyConnection) -> Snapshot:
    try:
        row = connection.execute("SELECT generation, taken_at, run_ids FROM snapshot").fetchone()
    except duckdb.Error as exc:
        raise StoreError(f"{path}: the snapshot cannot be read: {exc}") from exc
    if row is None:
        raise StoreError(f"{path}: is not a published snapshot")
    return Snapshot(path, int(row[0]), row[1], tuple(row[2]))


def _publish_closed(store_path: Path) -> Snapshot:
    """Copy a live file that nobody has open; the caller holds the lock."""
    stem = _stem(store_path)
    generation = max(_generations(store_path), default=0) + 1
    target = store_path.with_name(f"{stem}.snapshot-{generation}.duckdb")
    copy = temporary_path(store_path, "snapshot")
    shutil.copyfile(store_path, copy)
    taken_at, run_ids = _sign(copy, generation)
    assert_no_wal(copy, store_path)
    fsync_file(copy)
    os.replace(copy, target)
    link = temporary_path(store_path, "link")
    link.symlink_to(target.name)
    # The file's name must be durable before the link that points at it.
    checked_lines.fsync_directory(store_path.parent)
    os.replace(link, snapshot_link(store_path))
    checked_lines.fsync_directory(store_path.parent)
    for old in sorted(_generations(store_path))[:-KEPT_GENERATIONS]:
        path = store_path.with_name(f"{stem}.snapshot-{old}.duckdb")
        path.unlink(missing_ok=True)
        wal_path(path).unlink(missing_ok=True)
    return Snapshot(target, generation, taken_at, run_ids)


def _sign(copy: Path, generation: int) -> tuple[datetime, tuple[str, ...]]:
    """Write into the copy what it is; the live file itself holds projected rows only."""
    taken_at = datetime.now(UTC).replace(tzinfo=None)
    with duckdb.connect(copy) as connection:
        rows = connection.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()
        run_ids = tuple(str(run_id) for (run_id,) in rows)
        connection.execute(
            "INSERT INTO snapshot VALUES (?, ?, ?)", [generation, taken_at, list(run_ids)]
        )
        connection.execute("CHECKPOINT")
    return taken_at, run_ids


def _generations(store_path: Path) -> list[int]:
    pattern = re.compile(re.escape(_stem(store_path)) + r"\.snapshot-(\d+)\.duckdb")
    names = (entry.name for entry in store_path.parent.iterdir())
    return [int(match[1]) for match in map(pattern.fullmatch, names) if match]


def _stem(store_path: Path) -> str:
    return store_path.name.removesuffix(".duckdb")
