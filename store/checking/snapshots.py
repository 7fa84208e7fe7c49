"""The published snapshot against the live file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb

from pipeline.errors import EvoloomError
from store.checking.findings import Finding, Remedies
from store.compacting import fingerprint, tables
from store.database import wal_path
from store.snapshot import SnapshotReader, snapshot_link

_OF_THE_FILE = frozenset({"schema_version", "snapshot"})


def check_snapshot(
    store_path: Path,
    copy: duckdb.DuckDBPyConnection,
    remedies: Remedies,
    *,
    is_at_work: bool,
) -> Iterator[Finding]:
    """Open the snapshot as analysts do, read every block of it, and compare it with the live file.

    Args:
        copy: a copy of the live file.
        is_at_work: somebody was writing, so that the two may differ.
    """
    where = str(snapshot_link(store_path))
    try:
        with SnapshotReader(store_path) as reader, reader.current() as connection:
            snapshot = reader.snapshot()
            held = tuple(_run_ids(connection))
            if snapshot.path.name != f"{_stem(where)}-{snapshot.generation}.duckdb":
                what = f"{snapshot.path.name} says that it is generation {snapshot.generation}"
                yield Finding(where, what, remedies.ingest)
            if held != snapshot.run_ids:
                what = f"says that it is of {len(snapshot.run_ids)} runs, but holds {len(held)}"
                yield Finding(where, what, remedies.ingest)
            if wal_path(snapshot.path).exists():
                yield Finding(
                    str(snapshot.path),
                    "somebody has opened it for writing",
                    f"close it there; {remedies.ingest}, which publishes a fresh one",
                )
            behind = [
                table
                for table in tables(connection)
                if table not in _OF_THE_FILE
                and fingerprint(connection, table) != fingerprint(copy, table)
            ]
    except (EvoloomError, duckdb.Error) as exc:
        yield Finding(where, str(exc), remedies.ingest)
        return
    if behind and not is_at_work:
        what = f"differs from the live file in {', '.join(behind)}"
        yield Finding(where, what, remedies.ingest)


def _run_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()
    return [str(run_id) for (run_id,) in rows]


def _stem(link: str) -> str:
    return Path(link).name.removesuffix(".duckdb")
