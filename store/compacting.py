"""Rewrite the live file without the space of rows that were replaced."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import duckdb

from store import checked_lines
from store.database import (
    StoreError,
    assert_no_wal,
    create_database,
    fsync_file,
    hold_closed,
    open_live,
    quoted,
    remove_database,
    temporary_path,
    wal_path,
    writer_lock,
)
from store.snapshot import Snapshot, publish


@dataclass(frozen=True, slots=True)
class CompactReport:
    """Bytes of the live file before and after, and the snapshot published from it."""

    bytes_before: int
    bytes_after: int
    snapshot: Snapshot


def compact(store_path: Path, *, wait_s: float | None = None) -> CompactReport:
    """Replace the live file by one with the same rows, and publish it.

    Raises:
        StoreBusyError: another process has the live file open; it stays as it was.
        StoreError: the new file cannot be written, or holds other rows; the old one stays.
    """
    fresh = temporary_path(store_path, "compacted")
    with writer_lock(store_path, "compact"):
        with open_live(store_path, wait_s=wait_s):
            pass  # migrated, its log replayed, checkpointed
        assert_no_wal(store_path, store_path)
        before = store_path.stat()
        try:
            _rewrite(store_path, fresh)
            fsync_file(fresh)
            # Closing the old file has let go of DuckDB's lock on it; nobody may have written since.
            with hold_closed(store_path):
                now = store_path.stat()
                if (now.st_ino, now.st_mtime_ns, now.st_size) != (
                    before.st_ino, before.st_mtime_ns, before.st_size,
                ) or wal_path(store_path).exists():  # fmt: skip
                    raise StoreError(
                        f"{store_path}: another program wrote to it meanwhile; it stays as it is. "
                        "Close it there and compact again"
                    )
                os.replace(fresh, store_path)
            checked_lines.fsync_directory(store_path.parent)
        except (OSError, duckdb.Error) as exc:
            raise StoreError(f"{store_path}: cannot be compacted: {exc}") from exc
        finally:
            remove_database(fresh)
    return CompactReport(before.st_size, store_path.stat().st_size, publish(store_path))


def _rewrite(old: Path, fresh: Path) -> None:
    """Write all rows of one database into a new one, and compare them."""
    with create_database(fresh, old) as connection:
        connection.execute(f"ATTACH {quoted(old)} AS old (READ_ONLY)")
        for table in tables(connection):
            # What the migrations of the new file wrote is in the old one as well.
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM old.{table}")
            if fingerprint(connection, table) != fingerprint(connection, f"old.{table}"):
                raise StoreError(f"{old}: table {table} reads differently twice; it stays as it is")
        connection.execute("DETACH old")
        connection.execute("CHECKPOINT")
    assert_no_wal(fresh, old)


def tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The tables of a store, in ascending order."""
    rows = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() "
        "AND NOT internal AND NOT temporary ORDER BY table_name"
    ).fetchall()
    return [str(name) for (name,) in rows]


def fingerprint(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[int, int]:
    """Number of rows and a sum over all values, whatever the order; reads every block."""
    row = connection.execute(
        f"SELECT count(*), coalesce(sum(hash(t)::HUGEINT), 0) FROM {table} AS t"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
