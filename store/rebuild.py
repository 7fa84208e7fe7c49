"""Make DuckDB again from run directories; what no run directory holds is taken over if it can be."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow

from store import checked_lines
from store.database import (
    StoreError,
    assert_no_wal,
    create_database,
    fsync_file,
    hold_closed,
    remove_database,
    temporary_path,
    transaction,
    wal_path,
    writer_lock,
)
from store.ingest import IngestReport, clear_flags, ingest_into
from store.run_directory import list_run_ids, runs_directory
from store.service.projection import project_service
from store.snapshot import Snapshot, publish

_KEPT = ("parsers", "verb_nouns", "novelty_scores")


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What the new file was made of, and the snapshot published from it.

    `taken_over` counts the rows of parses and novelty scores that came from the old file; None says
    that it was missing, damaged or from another version, so that they are to be worked out again.
    """

    ingested: IngestReport
    snapshot: Snapshot
    taken_over: int | None


def rebuild(store_path: Path) -> RebuildReport:
    """Replace the live file by one made from the run directories, and publish it.

    Of the old file only parses and novelty scores are read, where it can be read at all.

    Raises:
        StoreBusyError: another process has the live file open; it stays as it was.
        StoreError: the new file cannot be written; the old one stays as it was.
    """
    runs_dir = runs_directory(store_path)
    fresh = temporary_path(store_path, "rebuilt")
    with writer_lock(store_path, "rebuild"):
        with hold_closed(store_path):
            pass  # held by another program: say so now
        # Before it is held for good: DuckDB would let go of the lock when it closes the file.
        kept = _read_kept(store_path)
        with hold_closed(store_path):
            run_ids = list_run_ids(runs_dir)
            try:
                with create_database(fresh, store_path) as connection:
                    report = ingest_into(connection, runs_dir, run_ids, strict=False)
                    project_service(connection, store_path)
                    taken_over = _take_over(connection, kept)
                    connection.execute("CHECKPOINT")
                assert_no_wal(fresh, store_path)
                fsync_file(fresh)
                # The old log goes first: replayed into the new file it would damage it, while the
                # old file without it is merely older, and whole.
                wal_path(store_path).unlink(missing_ok=True)
                os.replace(fresh, store_path)
                checked_lines.fsync_directory(store_path.parent)
            except (OSError, duckdb.Error) as exc:
                raise StoreError(f"{store_path}: cannot be made again: {exc}") from exc
            finally:
                remove_database(fresh)
        clear_flags(runs_dir, run_ids, report)
    return RebuildReport(report, publish(store_path), taken_over)


def _read_kept(store_path: Path) -> dict[str, pyarrow.Table]:
    """What only the old file holds, table by table; nothing where it cannot be read."""
    if not store_path.exists():
        return {}
    try:
        # A connection of its own: a damaged file can make all of DuckDB's instance unusable.
        with duckdb.connect(store_path, read_only=True) as old:
            return {table: old.sql(f"SELECT * FROM {table}").to_arrow_table() for table in _KEPT}
    except duckdb.Error:
        return {}


def _take_over(connection: duckdb.DuckDBPyConnection, kept: dict[str, pyarrow.Table]) -> int | None:
    """Write the old file's rows; a score of an instruction that is no more is dropped."""
    if not kept:
        return None
    try:
        with transaction(connection):
            for table, rows in kept.items():
                connection.register("kept", rows)
                connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM kept")
                connection.unregister("kept")
            connection.execute(
                "DELETE FROM novelty_scores "
                "WHERE instruction_id NOT IN (SELECT id FROM instructions)"
            )
    except duckdb.Error:  # columns of another version
        return None
    return sum(int(rows.num_rows) for rows in kept.values())
