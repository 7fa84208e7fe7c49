"""Make DuckDB again from run directories alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from store import checked_lines
from store.database import (
    StoreBusyError,
    StoreError,
    assert_no_wal,
    busy_message,
    create_database,
    fsync_file,
    remove_database,
    temporary_path,
    wal_path,
    writer_lock,
)
from store.ingest import IngestReport, clear_flags, ingest_into
from store.run_directory import list_run_ids, runs_directory
from store.snapshot import Snapshot, publish


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What the new file was made of, and the snapshot published from it."""

    ingested: IngestReport
    snapshot: Snapshot


def rebuild(store_path: Path) -> RebuildReport:
    """Replace the live file by one made from the run directories, and publish it.

    What was in the old file is not read: it may be missing, damaged, or from another version.

    Raises:
        StoreBusyError: another process has the live file open; it stays as it was.
        StoreError: the new file cannot be written; the old one stays as it was.
    """
    runs_dir = runs_directory(store_path)
    fresh = temporary_path(store_path, "rebuilt")
    with writer_lock(store_path, "rebuild"), _hold_closed(store_path):
        run_ids = list_run_ids(runs_dir)
        try:
            with create_database(fresh, store_path) as connection:
                report = ingest_into(connection, runs_dir, run_ids, strict=False)
                connection.execute("CHECKPOINT")
            assert_no_wal(fresh, store_path)
            fsync_file(fresh)
            # The old log goes first: replayed into the new file it would damage it, while the old
            # file without it is merely older, and whole.
            wal_path(store_path).unlink(missing_ok=True)
            os.replace(fresh, store_path)
            checked_lines.fsync_directory(store_path.parent)
        except (OSError, duckdb.Error) as exc:
            raise StoreError(f"{store_path}: cannot be made again: {exc}") from exc
        finally:
            remove_database(fresh)
        clear_flags(runs_dir, run_ids, report)
    return RebuildReport(report, publish(store_path))


@contextmanager
def _hold_closed(store_path: Path) -> Iterator[None]:
    """Keep every other process from opening the live file while it is replaced.

    DuckDB locks a file it opens with a POSIX record lock; holding that one works on files that
    DuckDB itself refuses to open. A reader with the old file open would go on reading it, unnoticed;
    a writer would leave its log beside the new file.
    """
    try:
        descriptor = os.open(store_path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as exc:
            raise StoreBusyError(busy_message(store_path, (), "")) from exc
        yield
    finally:
        os.close(descriptor)
