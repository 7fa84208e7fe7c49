"""One run directory against what the database has of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb

from pipeline.errors import EvoloomError
from store.checking.findings import Finding, Remedies
from store.checking.journals import check_journal
from store.dataset_rows import content_hash_of
from store.ingest import derive_run, forget_run, resume_offset
from store.run_directory import (
    SETTLED_STATES,
    Manifest,
    read_manifest,
    read_pruned,
    read_state,
    spool_path,
)
from store.run_writer import JOURNAL
from store.spool import read_batches
from store.student_rows import KIND_TABLES

_TABLES = (
    "seed_tasks", "seed_instances", "completions", "shots", "instructions", "instances",
    "watermarks", *KIND_TABLES,
)  # fmt: skip
_CHANGING = "state, reason, started_at, finished_at, updated_at, elapsed_s"
"""Of a run's row, what its directory says anew whenever its state changes."""


def check_run(
    scratch: duckdb.DuckDBPyConnection, run_dir: Path, remedies: Remedies, *, is_at_work: bool
) -> Iterator[Finding]:
    """Compare a run directory with the database.

    Args:
        scratch: an empty, migrated database, to which the live file's copy is attached as `live`;
            it is empty again afterwards.
        is_at_work: a process was executing the run when the copy was made, so that its directory
            may be ahead.
    """
    where = f"run {run_dir.name}"
    try:
        manifest = read_manifest(run_dir)
        if manifest.kind == "dataset" and content_hash_of(run_dir) != manifest.raw.get(
            "content_hash"
        ):
            yield Finding(
                where,
                "its rows are not those that this dataset version was made with (content hash)",
                remedies.restore,
            )
        yield from _compare(scratch, run_dir, manifest, remedies, is_at_work)
    except EvoloomError as exc:
        yield Finding(where, str(exc), remedies.restore)
    finally:
        forget_run(scratch, run_dir.name)


def _compare(
    scratch: duckdb.DuckDBPyConnection, run_dir: Path, manifest: Manifest, remedies: Remedies,
    is_at_work: bool,
) -> Iterator[Finding]:  # fmt: skip
    run_id, spool = manifest.run_id, spool_path(run_dir)
    where = f"run {run_id}"
    known = scratch.execute("SELECT 1 FROM live.runs WHERE run_id = ?", [run_id]).fetchone()
    if known is None:
        if not is_at_work:
            yield Finding(where, "is not in the database yet", remedies.ingest)
        return
    scratch.execute("USE live")
    offset = resume_offset(scratch, run_id, spool)
    scratch.execute("USE scratch")
    if offset is None:
        yield Finding(where, "its spool is not the one that was ingested", remedies.ingest)
        return
    waiting = 0 if is_at_work else sum(1 for _ in read_batches(spool, offset))
    if waiting:
        yield Finding(
            where, f"{waiting} batches of its spool are not ingested yet", remedies.ingest
        )
    derive_run(scratch, run_dir, offset)
    for table in _TABLES:
        if is_at_work and table in KIND_TABLES:
            continue  # read from files that the run is writing, not up to a watermark
        yield from _differences(scratch, run_id, table, "*", remedies.rebuild)
    columns = f"* EXCLUDE ({_CHANGING})"
    yield from _differences(scratch, run_id, "runs", columns, remedies.rebuild)
    if not is_at_work and not waiting:
        yield from _differences(scratch, run_id, "runs", f"run_id, {_CHANGING}", remedies.ingest)
    state = read_state(run_dir).state
    found = []
    if _has_journal(scratch, run_dir):
        is_whole = not is_at_work and not waiting and state in SETTLED_STATES
        found = list(check_journal(scratch, run_dir, remedies, is_whole=is_whole))
    if read_pruned(run_dir) is None:  # looked at last: it may have been pruned just now
        yield from found
    elif state not in SETTLED_STATES:
        yield Finding(where, f"is {state}, though it was pruned", remedies.restore)


def _has_journal(scratch: duckdb.DuckDBPyConnection, run_dir: Path) -> bool:
    """Whether the run has asked, or has answers, which it cannot have without a journal."""
    if (run_dir / JOURNAL).exists():
        return True
    found = scratch.execute(
        "SELECT 1 FROM live.completions WHERE run_id = ? LIMIT 1", [run_dir.name]
    ).fetchone()
    return found is not None


def _differences(
    scratch: duckdb.DuckDBPyConnection, run_id: str, table: str, columns: str, remedy: str
) -> Iterator[Finding]:
    """Rows that only one of the two has; a changed row is one on either side."""
    parts = {
        side: f"(SELECT {columns} FROM {side}.{table} WHERE run_id = $run_id)"
        for side in ("scratch", "live")
    }
    key = _KEYS.get(table, "run_id")
    found = []
    for one, other in (("scratch", "live"), ("live", "scratch")):
        row = scratch.execute(
            f"SELECT count(*), min({key}) FROM (FROM {parts[one]} EXCEPT ALL FROM {parts[other]})",
            {"run_id": run_id},
        ).fetchone()
        assert row is not None
        found.append((row[0], row[1]))
    (missing, first_missing), (extra, first_extra) = found
    if missing or extra:
        yield Finding(
            f"run {run_id}",
            f"table {table}: {missing} rows of the run directory are missing or differ, {extra} rows "
            f"are not the run directory's; the first: {first_missing or first_extra}",
            remedy,
        )


_PLACE = "stage || '/' || array_to_string(position, '.')"
_KEYS = {
    "seed_tasks": "seed_id",
    "seed_instances": "seed_id",
    "completions": _PLACE,
    "shots": "completion_id",
    "instructions": _PLACE,
    "instances": _PLACE,
    "watermarks": "stream",
}
"""How a row is named for people."""
