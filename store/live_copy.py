"""Copies of the live file, so that nobody has to wait while something long reads it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

import duckdb

from store.database import (
    StoreError,
    assert_no_wal,
    fsync_file,
    open_live,
    quoted,
    remove_database,
    temporary_path,
    writer_lock,
)


def copy_live(store_path: Path, target: Path, *, wait_s: float | None = None) -> None:
    """Copy the live file as it is between two writes; durable when this returns.

    Raises:
        StoreBusyError: another process has the live file open.
        StoreError: the copy cannot be written.
    """
    with writer_lock(store_path, "copy"):
        _copy_closed(store_path, target, wait_s)


@contextmanager
def open_copy(
    store_path: Path, *, wait_s: float | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in memory, to which a copy of the live file is attached, read-only, as `live`.

    The copy has lost its name before this yields: a kill leaves nothing behind, and no two copies
    ever share a path, which DuckDB would take for one database.

    Raises:
        StoreBusyError: another process has the live file open.
        StoreError: the copy cannot be written.
    """
    copy = temporary_path(store_path, f"copy-{token_hex(8)}")
    with duckdb.connect() as connection:
        with writer_lock(store_path, "copy"):
            try:
                _copy_closed(store_path, copy, wait_s)
                connection.execute(f"ATTACH {quoted(copy)} AS live (READ_ONLY)")
                connection.execute("USE live")
            except duckdb.Error as exc:
                raise StoreError(f"{copy}: the copy cannot be opened: {exc}") from exc
            finally:
                with suppress(OSError):
                    remove_database(copy)
        yield connection


def _copy_closed(store_path: Path, target: Path, wait_s: float | None) -> None:
    with open_live(store_path, wait_s=wait_s):
        pass  # opening replays a log that a kill left, closing checkpoints
    assert_no_wal(store_path, store_path)
    try:
        shutil.copyfile(store_path, target)
        fsync_file(target)
    except OSError as exc:
        raise StoreError(f"{target}: cannot be written: {exc.strerror or exc}") from exc
