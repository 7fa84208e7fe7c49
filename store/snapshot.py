"""The published snapshot: what analysts open, at any time, for as long as they like.

A snapshot is a file of its own, `<stem>.snapshot-<generation>.duckdb`, complete before it has its
name and never changed afterwards; `<stem>.snapshot.duckdb` is a symbolic link to the newest, moved
atomically. A reader keeps the file it opened, also after it was removed.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from pipeline.errors import UsageError
from store import checked_lines
from store.database import (
    StoreError,
    assert_no_wal,
    fsync_file,
    open_live,
    temporary_path,
    wal_path,
    writer_lock,
)

KEPT_GENERATIONS = 2
"""Snapshots kept: the newest, and the one that a reader may just be opening."""


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
    link = snapshot_link(store_path)
    for _ in range(10):  # two publishes between resolving and opening remove the file just found
        path = link.resolve()
        if not path.exists():
            continue
        try:
            return duckdb.connect(path, read_only=True)
        except duckdb.Error as exc:
            if path.exists():
                raise StoreError(f"{path}: the snapshot cannot be opened: {exc}") from exc
    raise UsageError(
        f"{link}: no snapshot has been published yet; every command that writes publishes one, or "
        f"type `evoloom store rebuild --store {store_path}`"
    )


def read_snapshot(store_path: Path) -> Snapshot:
    """What the newest snapshot says of itself.

    Raises:
        UsageError: nothing has been published yet.
    """
    with open_snapshot(store_path) as connection:
        row = connection.execute("SELECT generation, taken_at, run_ids FROM snapshot").fetchone()
    if row is None:
        raise StoreError(f"{snapshot_link(store_path)}: is not a published snapshot")
    path = store_path.with_name(f"{_stem(store_path)}.snapshot-{row[0]}.duckdb")
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
