"""What `runs` and `runs show` print, read from run directories: no open file can be in the way."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline.errors import EvoloomError
from store.run_directory import (
    Manifest,
    RunState,
    find_runs,
    list_run_ids,
    read_manifest,
    read_pruned,
    read_state,
    runs_directory,
    spool_path,
)
from store.run_rows import (
    EvolutionCount,
    Funnel,
    StageUsage,
    evolution_counts,
    funnel,
    prompts_with_two_machine_shots,
    read_run_rows,
    stage_usage,
)
from store.snapshot import open_snapshot
from store.spool import read_batches


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of `runs`. Times are UTC; `problem` says why the run directory cannot be read."""

    run_id: str
    kind: str
    state: str
    reason: str | None
    target: int | None
    accepted: int
    surplus: int
    ingest_pending: bool
    rederived_from: str | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    elapsed_s: float | None
    problem: str | None = None
    pruned_at: datetime | None = None
    """When it gave up its journal."""


@dataclass(frozen=True, slots=True)
class RunDetail:
    """Everything that `runs show` prints of one run."""

    summary: RunSummary
    manifest: Manifest
    funnel: Funnel
    usage: tuple[StageUsage, ...]
    prompts_with_two_machine_shots: int
    evolution: tuple[EvolutionCount, ...] = ()


def list_runs(store_path: Path) -> list[RunSummary]:
    """All runs of a store, the newest first."""
    runs_dir = runs_directory(store_path)
    counted = _snapshot_counts(store_path)
    found = []
    for run_id in list_run_ids(runs_dir):
        try:
            found.append(_summary(runs_dir / run_id, counted.get(run_id)))
        except EvoloomError as exc:
            found.append(
                RunSummary(run_id, "", "unreadable", None, None, 0, 0, False, None, None, None, None,
                           None, str(exc))
            )  # fmt: skip
    return sorted(found, key=_age, reverse=True)


def show_run(store_path: Path, run_id: str) -> RunDetail:
    """One run in full.

    Raises:
        UsageError: there is no such run; the message lists those there are.
    """
    runs_dir = runs_directory(store_path)
    find_runs(runs_dir, [run_id])
    rows = read_run_rows(runs_dir / run_id)
    counts = funnel(rows)
    accepted = counts.count("instructions", "accepted")
    surplus = counts.count("instructions", "surplus")
    return RunDetail(
        _summarise(runs_dir / run_id, rows.manifest, rows.state, accepted, surplus),
        rows.manifest,
        counts,
        stage_usage(rows),
        prompts_with_two_machine_shots(rows),
        evolution_counts(rows),
    )


def _age(run: RunSummary) -> tuple[str, str]:
    return (run.created_at.isoformat() if run.created_at else "", run.run_id)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the snapshot counted of a run, and how much of the spool it had seen."""

    created_at: datetime | None
    spool_offset: int
    accepted: int
    surplus: int


def _summary(run_dir: Path, counted: _Counted | None) -> RunSummary:
    manifest = read_manifest(run_dir)
    state = read_state(run_dir)
    spool = spool_path(run_dir)
    size = spool.stat().st_size if spool.exists() else 0
    # Reading every spool on every `runs` would take minutes after a year of nights; the snapshot has
    # counted those that have not grown since.
    if counted and counted.spool_offset == size and counted.created_at == manifest.created_at:
        return _summarise(run_dir, manifest, state, counted.accepted, counted.surplus)
    states: dict[tuple[str, tuple[int, ...]], str] = {}
    for _, batch in read_batches(spool):
        for row in batch.instructions:
            states[row.stage, row.position] = row.state
    outcomes = list(states.values())
    accepted, surplus = outcomes.count("accepted"), outcomes.count("surplus")
    return _summarise(run_dir, manifest, state, accepted, surplus)


def _summarise(
    run_dir: Path, manifest: Manifest, state: RunState, accepted: int, surplus: int
) -> RunSummary:
    pruned = read_pruned(run_dir)
    return RunSummary(
        run_id=manifest.run_id,
        kind=manifest.kind,
        state=state.state,
        reason=state.reason,
        target=manifest.target,
        accepted=accepted,
        surplus=surplus,
        ingest_pending=state.ingest_pending,
        rederived_from=manifest.rederived_from,
        created_at=manifest.created_at,
        started_at=state.started_at,
        finished_at=state.finished_at,
        elapsed_s=state.elapsed_s,
        pruned_at=pruned.pruned_at if pruned else None,
    )


def _snapshot_counts(store_path: Path) -> dict[str, _Counted]:
    with contextlib.suppress(EvoloomError), open_snapshot(store_path) as connection:
        rows = connection.execute(
            "SELECT run_id, created_at, max(spool_offset), accepted, surplus "
            "FROM runs JOIN watermarks USING (run_id) GROUP BY ALL"
        ).fetchall()
        return {row[0]: _Counted(*row[1:]) for row in rows}
    return {}
