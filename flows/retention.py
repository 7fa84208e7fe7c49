"""Retention: which runs give up their journals, by the time since they ended."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pipeline.errors import EvoloomError, UsageError
from store.pruning import JournalNeededError, journal_bytes, prune_run
from store.run_directory import (
    SETTLED_STATES,
    RunState,
    find_runs,
    list_run_ids,
    read_manifest,
    read_state,
    runs_directory,
)
from store.run_writer import RunTakenError

_AGE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Why = Literal["young", "resumable", "taken", "needed", "unreadable"]
"""Why a run keeps its journal: it ended too lately, it can be resumed, a process has it, its spool
lacks what the journal holds, or its files cannot be read."""


@dataclass(frozen=True, slots=True)
class PrunedRun:
    """A run whose journal was removed, or would be; `bytes` and `entries` are the journal's."""

    run_id: str
    kind: str
    state: str
    ended_at: datetime
    bytes: int
    entries: int


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run that keeps its journal, and why; `message` is for people."""

    run_id: str
    why: Why
    message: str


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a pruning did."""

    pruned: tuple[PrunedRun, ...]
    kept: tuple[KeptRun, ...]
    without_journal: tuple[str, ...] = ()
    """Runs that have none: they ask nobody, as an import or a training, or were pruned before."""

    @property
    def freed_bytes(self) -> int:
        """Bytes of all journals removed."""
        return sum(run.bytes for run in self.pruned)


def parse_age(text: str) -> timedelta:
    """An age such as `30d`, `12h`, `90m` or `2w`.

    Raises:
        UsageError: it is written in another way, or is longer than a calendar.
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"--older-than {text}: an age is a number and a unit, m (minutes), h (hours), d (days) or "
            "w (weeks), such as 30d"
        )
    try:
        age = timedelta(**{_UNITS[match["unit"]]: float(match["number"])})
        datetime.now(UTC) - age
    except OverflowError as exc:
        raise UsageError(f"--older-than {text}: that is before the year 1") from exc
    return age


def prune(
    store_path: Path,
    older_than: timedelta,
    run_ids: Sequence[str] = (),
    *,
    dry_run: bool = False,
) -> PruneReport:
    """Remove the journals of runs that ended longer ago than `older_than`.

    A run that can be resumed keeps its journal whatever its age. Manifests, spools and all else stay.

    Args:
        run_ids: look at these alone; none: at every run of the store.
        dry_run: remove nothing, and tell what would be.

    Raises:
        UsageError: there is no such run, or no such store.
        EvoloomError: the disk does not take the note of it; what was pruned before stays so.
    """
    runs_dir = runs_directory(store_path)
    if not runs_dir.is_dir() and not store_path.exists():
        raise UsageError(f"store {store_path}: there is no such store")
    find_runs(runs_dir, run_ids)
    now = datetime.now(UTC).replace(tzinfo=None)
    pruned: list[PrunedRun] = []
    kept: list[KeptRun] = []
    without: list[str] = []
    for run_id in dict.fromkeys(run_ids or list_run_ids(runs_dir)):
        found = _prune(runs_dir / run_id, now, older_than, dry_run=dry_run)
        if isinstance(found, PrunedRun):
            pruned.append(found)
        elif found is not None:
            kept.append(found)
        else:
            without.append(run_id)
    return PruneReport(tuple(pruned), tuple(kept), tuple(without))


def _prune(
    run_dir: Path, now: datetime, older_than: timedelta, *, dry_run: bool
) -> PrunedRun | KeptRun | None:
    run_id = run_dir.name
    try:
        if not journal_bytes(run_dir):
            return None  # it asks nobody, as an import or a training, or was pruned before
        kind, state = read_manifest(run_dir).kind, read_state(run_dir)
        if (kept := _kept(run_id, state, now - older_than)) is not None:
            return kept
        record = prune_run(run_dir, now, dry_run=dry_run)
    except RunTakenError:
        return KeptRun(run_id, "taken", "a process executes it, or prunes it; skipped")
    except JournalNeededError as exc:
        return KeptRun(run_id, "needed", str(exc))
    except EvoloomError as exc:
        return KeptRun(run_id, "unreadable", str(exc))
    except OSError as exc:
        raise EvoloomError(
            f"run {run_id}: {run_dir} cannot be written ({exc.strerror or exc}); its journal is kept. "
            "The same command goes on"
        ) from exc
    assert state.finished_at is not None
    return PrunedRun(run_id, kind, state.state, state.finished_at, record.bytes, record.entries)


def _kept(run_id: str, state: RunState, before: datetime) -> KeptRun | None:
    """Why a run is not to be pruned, told by its state alone."""
    if state.state not in SETTLED_STATES:
        return KeptRun(run_id, "resumable", f"it is {state.state}, and a resume reads its journal")
    if state.finished_at is None:
        return KeptRun(run_id, "unreadable", "its state.json does not say when it ended")
    if state.finished_at > before:
        return KeptRun(run_id, "young", f"it ended on {state.finished_at:%Y-%m-%d %H:%M} UTC")
    return None
