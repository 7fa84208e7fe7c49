"""The chain `nightly`: self-instruct, evol-instruct, curate, train, evaluate, each handing on what it
made. Knows no Prefect: who executes a step is handed in.

A nightly is named like a run, and each of its steps is a run named after it. What is done is noted in
`<store>.runs/NIGHTLY.flow/nightly.json`; a nightly that is started again with the same id leaves out
the steps that are done and goes on with the one that stopped, whose own run is resumed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from flows.parameters import checked_run_id, public_settings, resolve_parameters
from flows.profiles import NightlyProfile, StepName, merged
from pipeline.config import operational_keys
from pipeline.errors import EvoloomError, UsageError
from pipeline.student.trained import RESULT
from store.checked_lines import write_atomically
from store.datasets import CARD
from store.evaluations import REPORT
from store.run_directory import read_manifest, runs_directory
from store.run_writer import PROGRESS

KIND = "nightly"
_RECORD = "nightly.json"
StepState = Literal["completed", "ceiling", "interrupted", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class StepOrder:
    """What one step is to do."""

    step: StepName
    run_id: str
    source: str | None
    """What it begins with; None for self-instruct."""
    settings: Mapping[str, Any]
    """By section."""
    store_path: Path
    profile: NightlyProfile


@dataclass(frozen=True, slots=True)
class StepEnd:
    """How a step ended. `made` is what later steps and people call what it made."""

    state: StepState
    made: str
    message: str = ""
    exit_code: int = 0

    @property
    def goes_on(self) -> bool:
        """Whether the next step has something to begin with."""
        return self.state in ("completed", "ceiling")


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step in the nightly's table."""

    step: str
    run_id: str
    made: str
    state: str
    counts: str = ""
    cost: float | None = None
    report: str = ""


@dataclass(frozen=True, slots=True)
class NightlyEnd:
    """How a nightly ended."""

    run_id: str
    state: StepState
    rows: tuple[StepRow, ...]
    message: str
    exit_code: int


StepRunner = Callable[[StepOrder], StepEnd]


class NightlyStoppedError(EvoloomError):
    """Raised when a nightly ends before its last step; its exit code is that step's."""

    def __init__(self, end: NightlyEnd) -> None:
        super().__init__(end.message)
        self.exit_code = end.exit_code


def run_nightly(
    profile: NightlyProfile,
    run_id: str,
    run_step: StepRunner,
    on_message: Callable[[str], None] = lambda text: None,
    on_rows: Callable[[Sequence[StepRow]], None] = lambda rows: None,
) -> NightlyEnd:
    """Go through the chain from the first step that is not done.

    Args:
        on_rows: is told the steps so far after each one.

    Raises:
        UsageError: id or settings cannot be used, or the nightly was begun with another profile.
    """
    for step in profile.steps:
        checked_run_id(step_id(run_id, step))
    store_path = Path(resolve_parameters(profile.settings).store.path).absolute()
    record = _Record(store_path, run_id)
    record.begin(profile)
    rows: list[StepRow] = []
    source, notes = profile.source, []
    for number, step in enumerate(profile.steps, 1):
        row = record.done.get(step)
        if row is None:
            order = _order(profile, run_id, step, source, store_path)
            on_message(
                f"nightly {run_id}: step {number} of {len(profile.steps)}, {step} (run {order.run_id})"
            )
            end = run_step(order)
            row = describe(order, end)
            if not end.goes_on:
                rows.append(row)
                on_rows(rows)
                return _stopped(run_id, row, end, rows, store_path)
            record.note(step, row)
        rows.append(row)
        on_rows(rows)
        if row.state == "ceiling":
            notes.append(f"{step} reached its ceiling with {row.counts}; the rest goes by these")
            on_message(f"nightly {run_id}: {notes[-1]}")
        source = row.made
    message = "; ".join([f"nightly {run_id} is completed", *notes])
    return NightlyEnd(run_id, "completed", tuple(rows), message, 0)


def step_id(run_id: str, step: str) -> str:
    """The run of a nightly's step."""
    return f"{run_id}-{step}"


def record_path(store_path: Path, run_id: str) -> Path:
    """Where a nightly notes what is done."""
    return runs_directory(store_path) / f"{run_id}.flow" / _RECORD


def recorded_profile(store_path: Path, run_id: str) -> NightlyProfile | None:
    """The profile that a nightly was begun with; None where there is no such nightly."""
    path = record_path(store_path, run_id)
    if not path.exists():
        return None
    return NightlyProfile.model_validate(json.loads(path.read_bytes())["profile"])


def _order(
    profile: NightlyProfile, run_id: str, step: StepName, source: str | None, store_path: Path
) -> StepOrder:
    settings = merged(profile.settings_of(step), {"store": {"path": str(store_path)}})
    if step == "evol-instruct":
        settings = merged(settings, {"evol_instruct": {"source": source}})
    return StepOrder(step, step_id(run_id, step), source, settings, store_path, profile)


class _Record:
    """The nightly's file: its profile and the steps that are done."""

    def __init__(self, store_path: Path, run_id: str) -> None:
        self._path = record_path(store_path, run_id)
        self._run_id = run_id
        self._profile: dict[str, Any] = {}
        self.done: dict[str, StepRow] = {}

    def begin(self, profile: NightlyProfile) -> None:
        """Take up what is done, if the nightly was begun already.

        Raises:
            UsageError: it was begun with another profile, or the file cannot be written.
        """
        self._profile = profile.parameters()
        if self._path.exists():
            value = json.loads(self._path.read_bytes())
            self.done = {step: StepRow(**row) for step, row in value["steps"].items()}
            _check_same(self._run_id, value["profile"], self._profile)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write()
        except OSError as exc:
            raise UsageError(f"{self._path}: cannot be written: {exc.strerror or exc}") from exc

    def note(self, step: str, row: StepRow) -> None:
        """A step is done."""
        self.done[step] = row
        self._write()

    def _write(self) -> None:
        value = {
            "profile": self._profile,
            "steps": {step: asdict(row) for step, row in self.done.items()},
        }
        write_atomically(self._path, json.dumps(value, ensure_ascii=False, indent=1).encode())


def _check_same(run_id: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    operational = operational_keys()

    def pinned(profile: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in profile.items():
            table, inner = (key, value) if isinstance(value, Mapping) else ("", {key: value})
            if table and table != "settings":
                found |= {f"{table}.{name}": item for name, item in inner.items()
                          if name != "settings"}  # fmt: skip
                inner = inner.get("settings", {})
            elif not table:
                found |= inner
                continue
            for name, item in public_settings(inner):
                if name not in operational:
                    found[f"{table}: {name}"] = item
        return found

    before, after = pinned(then), pinned(now)
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            raise UsageError(
                f"{key} is {_shown(after.get(key))}, but was {_shown(before.get(key))} when nightly "
                f"{run_id} was begun. Leave it as it was to go on, or name another run id"
            )


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def describe(order: StepOrder, end: StepEnd) -> StepRow:
    """A step's row: what there is of it in its run directory."""
    row = StepRow(order.step, order.run_id, end.made, end.state)
    try:
        return _counted(row, order, runs_directory(order.store_path))
    except (EvoloomError, OSError, ValueError, KeyError, TypeError):
        return row  # it has not come that far


def _counted(row: StepRow, order: StepOrder, runs_dir: Path) -> StepRow:
    run_dir = runs_dir / order.run_id
    last = _last_record(run_dir / PROGRESS)
    cost = last.get("cost")
    if order.step in ("self-instruct", "evol-instruct"):
        target = f" of {last['target']}" if last.get("target") is not None else ""
        counts = f"{last['accepted']}{target} {last.get('counted', 'accepted')}"
        return replace(row, counts=counts, cost=cost)
    if order.step == "curate":
        raw = read_manifest(runs_dir / row.made).raw
        counts = f"{raw['instructions']} instructions, {raw['instances']} instances"
        return replace(row, counts=counts, report=str(runs_dir / row.made / CARD))
    if order.step == "train":
        result = json.loads((run_dir / RESULT).read_bytes())
        losses = f"{result['base_held_out_loss']:.4f} -> {result['held_out_loss']:.4f}"
        return replace(row, counts=f"{result['steps']} steps, held-out loss {losses}")
    raw = read_manifest(run_dir).raw
    items = sum(file["items"] for file in raw["contamination"]["files"])
    report = run_dir / REPORT
    shown = str(report) if report.exists() else ""
    return replace(row, counts=f"{items} items", cost=cost, report=shown)


def _last_record(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    for line in reversed(path.read_text("utf-8", "replace").splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return {}


def _stopped(
    run_id: str, row: StepRow, end: StepEnd, rows: Sequence[StepRow], store_path: Path
) -> NightlyEnd:
    what = {"interrupted": "was interrupted", "cancelled": "was cancelled"}.get(end.state, "failed")
    message = (
        f"nightly {run_id} stopped at its step {row.step} (run {row.run_id}), which {what}: "
        f"{end.message.rstrip('.')}. What was made before it is there. "
        f"`evoloom run nightly --run-id {run_id} --store {shlex.quote(str(store_path))}`, a retry of "
        "the flow run, or a flow run with the same run_id goes on with this step"
    )
    return NightlyEnd(run_id, end.state, tuple(rows), message, end.exit_code or 1)


def table_of(rows: Sequence[StepRow]) -> list[dict[str, Any]]:
    """The rows as a table's, cost as text."""
    return [{**asdict(row), "cost": "" if row.cost is None else f"{row.cost:.4f}"} for row in rows]
