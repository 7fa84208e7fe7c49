"""Ingest: apply the spools of run directories to DuckDB, each batch once.

How far a run's spool has been read stands in `watermarks`, written in the transaction of the rows
it vouches for, so that a kill at any moment costs at most one chunk of repeated work, and ingesting
twice changes nothing. A row is replaced by its key, so that pieces, the whole at once and a rebuild
come to the same tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from pipeline.errors import EvoloomError
from pipeline.records import Batch
from store.database import open_live, transaction, writer_lock
from store.frames import SCHEMAS, batch_frames, seed_frames
from store.run_directory import (
    Manifest,
    clear_ingest_pending,
    find_runs,
    list_run_ids,
    read_manifest,
    read_state,
    runs_directory,
    spool_path,
)
from store.service.database import service_path
from store.service.projection import ServiceUnreadableError, project_service
from store.spool import read_batches
from store.student_rows import KIND_TABLES, write_kind_rows
from store.text import storable

CHUNK_BATCHES = 5_000
"""Batches applied in one transaction at most."""
CHUNK_BYTES = 32 * 2**20
"""Bytes of spool applied in one transaction, about; with CHUNK_BATCHES it bounds memory."""

_KEYS = {"completions": "id", "shots": "completion_id", "instructions": "id", "instances": "id"}


@dataclass(frozen=True, slots=True)
class RunIngest:
    """What was applied of one run.

    `restarted` says that its rows were dropped and read from the start of the spool, because the
    run directory is not the one that was ingested before.
    """

    run_id: str
    batches: int
    rows: int
    restarted: bool = False


@dataclass(frozen=True, slots=True)
class DamagedRun:
    """A run that could not be ingested, and why; the others were."""

    run_id: str
    message: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did; `runs` names only runs that had something new."""

    runs: tuple[RunIngest, ...]
    damaged: tuple[DamagedRun, ...] = ()


@dataclass(slots=True)
class _Chunk:
    batches: list[Batch] = field(default_factory=list)
    marks: dict[str, tuple[list[int], int, int]] = field(default_factory=dict)


def ingest(
    store_path: Path, run_ids: Sequence[str] | None = None, *, wait_s: float | None = None
) -> IngestReport:
    """Bring runs up to date in the live file, and clear their `ingest_pending`.

    Args:
        run_ids: the runs; None for every run that has something new. With None a run directory
            that cannot be read is reported and does not hold up the others.
        wait_s: patience with a program that has the live file open.

    Raises:
        StoreBusyError: another process has the live file; nothing was changed.
        UsageError: a named run does not exist, or the store is not one that can be written.
    """
    runs_dir = runs_directory(store_path)
    if run_ids is not None:
        find_runs(runs_dir, run_ids)
    wanted = list_run_ids(runs_dir) if run_ids is None else list(run_ids)
    pending = wanted if run_ids is not None else _flagged(runs_dir, wanted)
    with writer_lock(store_path, "ingest"):
        with open_live(store_path, pending=pending, wait_s=wait_s) as connection:
            report = ingest_into(connection, runs_dir, wanted, strict=run_ids is not None)
            report = _with_service(connection, store_path, report)
        clear_flags(runs_dir, wanted, report)
    return report


def ingest_into(
    connection: duckdb.DuckDBPyConnection, runs_dir: Path, run_ids: Sequence[str], *, strict: bool
) -> IngestReport:
    """Apply what is new of these runs to an open, migrated database.

    Args:
        strict: raise for a run directory that cannot be read, instead of reporting it.
    """
    done: list[RunIngest] = []
    damaged: list[DamagedRun] = []
    for run_id in run_ids:
        try:
            result = _ingest_run(connection, runs_dir / run_id)
        except EvoloomError as exc:
            if strict:
                raise
            damaged.append(DamagedRun(run_id, str(exc)))
        else:
            if result is not None:
                done.append(result)
    return IngestReport(tuple(done), tuple(damaged))


def derive_run(connection: duckdb.DuckDBPyConnection, run_dir: Path, end: int) -> None:
    """Write what ingesting a run's spool up to byte `end` comes to, into a database that has no
    rows of the run.

    Raises:
        EvoloomError: a file of the run directory is damaged.
    """
    manifest = read_manifest(run_dir)
    with transaction(connection):
        _insert_seeds(connection, manifest)
        for chunk in _chunks(spool_path(run_dir), 0, end):
            _apply(connection, manifest.run_id, chunk, spool_path(run_dir))
        write_kind_rows(connection, run_dir, manifest)
        _write_run(connection, _run_values(manifest, run_dir))


def forget_run(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Delete everything of a run."""
    with transaction(connection):
        _forget(connection, run_id)
        connection.execute("DELETE FROM runs WHERE run_id = ?", [run_id])


def _with_service(
    connection: duckdb.DuckDBPyConnection, store_path: Path, report: IngestReport
) -> IngestReport:
    """Take over what was submitted over REST; a database that cannot be read holds up no run."""
    try:
        project_service(connection, store_path)
    except ServiceUnreadableError as exc:
        damaged = DamagedRun(service_path(store_path).name, str(exc))
        return replace(report, damaged=(*report.damaged, damaged))
    return report


def clear_flags(runs_dir: Path, run_ids: Sequence[str], report: IngestReport) -> None:
    """Clear `ingest_pending` of the runs that a finished ingest went through."""
    damaged = {run.run_id for run in report.damaged}
    for run_id in run_ids:
        # A run at work writes its own state; only it may touch the file then.
        at_work = ("running", "paused")
        if run_id not in damaged and read_state(runs_dir / run_id).state not in at_work:
            clear_ingest_pending(runs_dir / run_id)


def _flagged(runs_dir: Path, run_ids: Sequence[str]) -> list[str]:
    flagged = []
    for run_id in run_ids:
        try:
            if read_state(runs_dir / run_id).ingest_pending:
                flagged.append(run_id)
        except EvoloomError:
            continue
    return flagged


def _ingest_run(connection: duckdb.DuckDBPyConnection, run_dir: Path) -> RunIngest | None:
    """Apply a run's new batches; None where there was nothing new at all."""
    manifest = read_manifest(run_dir)
    row = _run_values(manifest, run_dir)
    stored = connection.execute(
        "SELECT * EXCLUDE (accepted, surplus) FROM runs WHERE run_id = ?", [manifest.run_id]
    ).fetchone()
    offset = resume_offset(connection, manifest.run_id, spool_path(run_dir))
    restart = stored is not None and (offset is None or stored[-1] != row[-1])
    if restart or offset is None:
        offset = 0
    batches = rows = 0
    is_known = stored is not None
    for chunk in _chunks(spool_path(run_dir), offset):
        with transaction(connection):
            if restart and not batches:
                _forget(connection, manifest.run_id)
                is_known = False
            if not is_known:
                _insert_seeds(connection, manifest)
            rows += _apply(connection, manifest.run_id, chunk, spool_path(run_dir))
            if not batches:
                write_kind_rows(connection, run_dir, manifest)
            _write_run(connection, row)
        is_known = True
        batches += len(chunk.batches)
    if batches:
        return RunIngest(manifest.run_id, batches, rows, restart)
    if stored == row and not restart:
        return None
    with transaction(connection):
        if restart:
            _forget(connection, manifest.run_id)
        if restart or not is_known:
            _insert_seeds(connection, manifest)
        write_kind_rows(connection, run_dir, manifest)
        _write_run(connection, row)
    return RunIngest(manifest.run_id, 0, 0, restart)


def resume_offset(connection: duckdb.DuckDBPyConnection, run_id: str, spool: Path) -> int | None:
    """Where to go on reading; None where the spool is not the one that was read before.

    The spool is derived data: it may have been deleted and derived again, its streams interleaved
    in another way. So the last line that was applied must still stand where it stood.
    """
    mark = connection.execute(
        "SELECT spool_offset, line_start, line_checksum FROM watermarks WHERE run_id = ? "
        "ORDER BY spool_offset DESC LIMIT 1",
        [run_id],
    ).fetchone()
    if mark is None:
        return 0
    end, start, checksum = mark
    if not spool.exists() or spool.stat().st_size < end:
        return None
    with spool.open("rb") as file:
        return end if _line_checksum(file, start) == checksum else None


def _line_checksum(file: Any, start: int) -> str:
    """The eight hex digits that a line of the spool starts with."""
    file.seek(start)
    return str(file.read(8).decode("ascii", "replace"))


def _chunks(spool: Path, offset: int, limit: int | None = None) -> Iterator[_Chunk]:
    chunk = _Chunk()
    chunk_start = start = offset
    for end, batch in read_batches(spool, offset):
        if limit is not None and end > limit:
            break
        chunk.batches.append(batch)
        chunk.marks[batch.stream] = (list(batch.position), end, start)
        start = end
        if len(chunk.batches) >= CHUNK_BATCHES or end - chunk_start >= CHUNK_BYTES:
            yield chunk
            chunk = _Chunk()
            chunk_start = end
    if chunk.batches:
        yield chunk


def _apply(connection: duckdb.DuckDBPyConnection, run_id: str, chunk: _Chunk, spool: Path) -> int:
    rows = 0
    frames = batch_frames(run_id, chunk.batches)
    for table, key in _KEYS.items():
        # A completion's shots go with the completion that they belong to.
        replaced = frames["completions" if table == "shots" else table].select("id").to_arrow()
        connection.register("replaced", replaced)
        connection.execute(f"DELETE FROM {table} WHERE {key} IN (SELECT id FROM replaced)")
        connection.unregister("replaced")
        _insert(connection, table, frames[table])
        rows += frames[table].height
    with spool.open("rb") as file:
        for stream, (position, end, start) in chunk.marks.items():
            connection.execute(
                "INSERT OR REPLACE INTO watermarks VALUES (?, ?, ?, ?, ?, ?)",
                [run_id, stream, position, end, start, _line_checksum(file, start)],
            )
    return rows


def _insert(connection: duckdb.DuckDBPyConnection, table: str, frame: Any) -> None:
    if frame.is_empty():
        return
    connection.register("staged", frame.to_arrow())
    # Texts are joined by their hash, which DuckDB makes far faster than Python.
    more = ", md5(text)::UUID AS text_id" if table == "instructions" else ""
    connection.execute(f"INSERT INTO {table} BY NAME SELECT *{more} FROM staged")
    connection.unregister("staged")


def _insert_seeds(connection: duckdb.DuckDBPyConnection, manifest: Manifest) -> None:
    for table, frame in seed_frames(manifest).items():
        _insert(connection, table, frame)


def _forget(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    for table in (*SCHEMAS, *KIND_TABLES, "novelty_scores", "watermarks"):
        connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [run_id])


def _run_values(manifest: Manifest, run_dir: Path) -> tuple[Any, ...]:
    """The run's row without what is counted; the manifest, by which a run is known, comes last."""
    state = read_state(run_dir)
    raw = {key: value for key, value in manifest.raw.items() if key != "seeds"}
    text = storable(json.dumps(raw, ensure_ascii=False, sort_keys=True, separators=(",", ":")))
    return (
        manifest.run_id, manifest.kind, state.state, state.reason, manifest.target,
        manifest.run_seed, manifest.window, manifest.ceiling, manifest.rederived_from,
        list(manifest.novelty_against), manifest.created_at, state.started_at, state.finished_at,
        state.updated_at, state.elapsed_s, text,
    )  # fmt: skip


def _write_run(connection: duckdb.DuckDBPyConnection, row: Sequence[Any]) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO runs "
        "SELECT $1, $2, $3, $4, $5, "
        "(SELECT count(*) FROM instructions WHERE run_id = $1 AND state = 'accepted'), "
        "(SELECT count(*) FROM instructions WHERE run_id = $1 AND state = 'surplus'), "
        "$6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16",
        list(row),
    )
