"""Run directories as everything but the run itself sees them: names, manifest, state.

They lie in `<store>.runs/RUN/`. Only the run writes there. There are two exceptions: the flag
`ingest_pending`, which whoever ingests the run clears, and pruning (`store.pruning`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import EvoloomError, UsageError
from pipeline.records import SeedTask
from store import checked_lines

MANIFEST_FORMAT = 1
"""The newest format of a manifest that this version reads."""

SETTLED_STATES = frozenset({"completed", "ceiling"})
"""States in which nothing that the run admitted is still open."""


PRUNED = "pruned.json"
"""Says that a run gave up its journal, and when; written before the journal is removed."""


class DamagedRunError(EvoloomError):
    """Raised when a run directory cannot be read."""


class PrunedRunError(UsageError):
    """Raised when something is asked of a run that takes its journal, which was pruned."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run was started with. `raw` is the whole file; the rest are the parts used here."""

    run_id: str
    kind: str
    created_at: datetime | None
    run_seed: int | None
    target: int | None
    window: int | None
    ceiling: float | None
    rederived_from: str | None
    novelty_against: tuple[str, ...]
    seeds: tuple[SeedTask, ...]
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunState:
    """What has become of a run, as its `state.json` says; `queued` where there is none yet."""

    state: str = "queued"
    reason: str | None = None
    updated_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    elapsed_s: float | None = None
    ingest_pending: bool = False


def runs_directory(store_path: Path) -> Path:
    """Where the run directories of a store lie."""
    return store_path.with_name(f"{store_path.name}.runs")


def spool_path(run_dir: Path) -> Path:
    """The file of derived batches in a run directory."""
    return run_dir / "spool"


def list_run_ids(runs_dir: Path) -> list[str]:
    """The runs in a folder, in ascending order; a folder without a manifest is not (yet) a run."""
    if not runs_dir.is_dir():
        return []
    # A hidden folder is a run in the making that a kill left behind.
    return sorted(entry.parent.name for entry in runs_dir.glob("[!.]*/manifest.json"))


def is_run(store_path: Path, run_id: str) -> bool:
    """Whether a store has a run with this id."""
    return (runs_directory(store_path) / run_id / "manifest.json").exists()


def find_runs(runs_dir: Path, run_ids: Sequence[str]) -> None:
    """Check that every run named is there.

    Raises:
        UsageError: one is not; the message lists the runs there are.
    """
    known = list_run_ids(runs_dir)
    for run_id in run_ids:
        if run_id not in known:
            there = ", ".join(known[-20:]) if known else "none"
            more = f" (the last 20 of {len(known)})" if len(known) > 20 else ""
            raise UsageError(f"no run {run_id!r} in {runs_dir}; there: {there}{more}")


def read_manifest(run_dir: Path) -> Manifest:
    """Read a run's manifest.

    Raises:
        DamagedRunError: it is missing, is no JSON or lacks a key.
        UsageError: a newer evoloom wrote it.
    """
    path = run_dir / "manifest.json"
    raw = _read_object(path)
    version = raw.get("format")
    if isinstance(version, int) and version > MANIFEST_FORMAT:
        raise UsageError(
            f"{path}: format {version} was written by a newer evoloom; this one reads up to "
            f"{MANIFEST_FORMAT}. Use the newer version"
        )
    try:
        manifest = Manifest(
            run_id=raw["run_id"],
            kind=raw["kind"],
            created_at=parse_utc(raw.get("created_at")),
            run_seed=raw.get("run_seed"),
            target=raw.get("target"),
            window=raw.get("window"),
            ceiling=raw.get("ceiling"),
            rederived_from=raw.get("rederived_from"),
            novelty_against=tuple(raw.get("novelty_against") or ()),
            seeds=tuple(SeedTask.from_json(row) for row in raw.get("seeds") or ()),
            raw=raw,
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise DamagedRunError(f"{path}: {type(exc).__name__}: {exc}") from exc
    if manifest.run_id != run_dir.name:
        raise DamagedRunError(
            f"{path}: is the manifest of run {manifest.run_id!r}, but the folder is {run_dir.name!r}; "
            "a run directory keeps its name"
        )
    return manifest


def read_state(run_dir: Path) -> RunState:
    """Read a run's state; a run that has not started has none.

    Raises:
        DamagedRunError: it is there and cannot be read.
    """
    path = run_dir / "state.json"
    if not path.exists():
        return RunState()
    raw = _read_object(path)
    try:
        return RunState(
            raw["state"],
            raw.get("reason"),
            parse_utc(raw.get("updated_at")),
            parse_utc(raw.get("started_at")),
            parse_utc(raw.get("finished_at")),
            raw.get("elapsed_s"),
            bool(raw.get("ingest_pending", False)),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise DamagedRunError(f"{path}: {type(exc).__name__}: {exc}") from exc


@dataclass(frozen=True, slots=True)
class PrunedRecord:
    """What a run gave up: when (UTC), how many bytes of journal and how many answers in it."""

    pruned_at: datetime
    bytes: int
    entries: int


def read_pruned(run_dir: Path) -> PrunedRecord | None:
    """What was pruned of a run; None where it has all it ever had.

    Raises:
        DamagedRunError: the record is there and cannot be read.
    """
    path = run_dir / PRUNED
    if not path.exists():
        return None
    raw = _read_object(path)
    try:
        pruned_at = parse_utc(raw["pruned_at"])
        if pruned_at is None:
            raise ValueError("pruned_at is empty")
        return PrunedRecord(pruned_at, int(raw["bytes"]), int(raw["entries"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise DamagedRunError(f"{path}: {type(exc).__name__}: {exc}") from exc


def refuse_pruned(run_dir: Path, to_do: str) -> None:
    """Check that a run has its journal.

    Args:
        to_do: what it is needed for, such as `be derived again`.

    Raises:
        PrunedRunError: it was pruned.
    """
    record = read_pruned(run_dir)
    if record is not None:
        raise PrunedRunError(
            f"run {run_dir.name} was pruned on {record.pruned_at:%Y-%m-%d}: without its journal, of "
            f"{record.entries:,} answers, it cannot {to_do}. What was made of them is still there to "
            "be exported, queried and rebuilt; a backup from before has the journal"
        )


def clear_ingest_pending(run_dir: Path) -> bool:
    """Note in a run's state that the store holds all of it; False where nothing was pending."""
    path = run_dir / "state.json"
    if not path.exists():
        return False
    raw = _read_object(path)
    if not raw.get("ingest_pending"):
        return False
    raw["ingest_pending"] = False
    data = json.dumps(raw, ensure_ascii=False, indent=2).encode() + b"\n"
    checked_lines.write_atomically(path, data)
    return True


def parse_utc(text: str | None) -> datetime | None:
    """A UTC time without a zone, as the store keeps it; a text without a zone is taken as UTC."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise DamagedRunError(f"{path}: cannot be read: {exc}") from exc
    if not isinstance(value, dict):
        raise DamagedRunError(f"{path}: holds no JSON object")
    return value
