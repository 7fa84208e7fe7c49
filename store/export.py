"""Exports: a run's accepted instances as files that trainers read.

An export reads the run directory, never DuckDB, so that it works while somebody holds the live file.
Its data is a function of the run's rows: no run id, no clock, rows in (admission, instance) order,
which an evolution shuffles by its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pipeline.errors import UsageError
from store.exporting.checking import check_rows, check_single_turns
from store.exporting.formats import FORMATS, ExportFormat
from store.exporting.places import write_parts
from store.exporting.rows import (
    ExportRow,
    InvalidRowError,
    accepted_rows,
    complete_positions,
    export_rows,
)
from store.exporting.splitting import split_rows
from store.exporting.student import FORMAT as STUDENT
from store.exporting.student import read_student_rows, write_student_rows
from store.roots import Roots
from store.run_directory import SETTLED_STATES, find_runs
from store.run_rows import RunRows, read_run_rows

__all__ = [
    "ExportFormat", "ExportReport", "ExportedPart", "InvalidRowError", "accepted_rows",
    "complete_positions", "export_run", "export_student",
]  # fmt: skip

Card: TypeAlias = Callable[[RunRows, Sequence[ExportRow]], str]
"""Writes the dataset card of a run and its exported rows."""


@dataclass(frozen=True, slots=True)
class ExportedPart:
    """`train` or `validation`; `roots` is counted only where there was a split."""

    name: str
    path: Path
    rows: int
    instructions: int
    roots: int | None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export holds.

    `is_partial` says that the run is not completed: then the data is its longest complete prefix,
    the first `complete_positions` generation positions.
    """

    run_id: str
    state: str
    out: Path
    format: ExportFormat | Literal["student"]
    rows: int
    instructions: int
    complete_positions: int
    is_partial: bool
    parts: tuple[ExportedPart, ...]


def export_run(
    run_dir: Path,
    format: ExportFormat,
    out: Path,
    *,
    validation: float | None = None,
    split_seed: int = 0,
    card: Card | None = None,
) -> ExportReport:
    """Write a run's accepted instances to `out`.

    Args:
        out: a file: JSON Lines, or one JSON array where the name ends in `.json`; `-` is standard
            output. A directory for the formats that are one.
        validation: the share of rows that becomes a validation part, whole lineages at a time.
        split_seed: what the split is drawn from.
        card: the text of a dataset card, for the format that has one.

    Raises:
        UsageError: the run does not exist, the format is unknown or cannot carry the rows, or `out`
            cannot be written.
        InvalidRowError: an accepted row is not fit for training.
    """
    if format not in FORMATS:
        raise UsageError(f"format {format!r} is not known; known: {', '.join([*FORMATS, STUDENT])}")
    find_runs(run_dir.parent, [run_dir.name])
    run = read_run_rows(run_dir)
    positions = complete_positions(run)
    rows = export_rows(run, positions)
    check_rows(rows)
    if not FORMATS[format].carries_conversations:
        carriers = [name for name, other in FORMATS.items() if other.carries_conversations]
        check_single_turns(rows, format, carriers)
    parts = {"train": rows}
    roots: dict[str, int] = {}
    if validation is not None:
        parts, roots = _split(run, run_dir.parent, rows, validation, split_seed)
    places = write_parts(
        format, out, parts, lambda: card(run, rows) if card else f"# {run.manifest.run_id}\n"
    )
    return ExportReport(
        run_id=run.manifest.run_id,
        state=run.state.state,
        out=out,
        format=format,
        rows=len(rows),
        instructions=len({row.key for row in rows}),
        complete_positions=positions,
        is_partial=run.state.state not in SETTLED_STATES,
        parts=tuple(
            ExportedPart(
                name, places[name], len(part), len({row.key for row in part}), roots.get(name)
            )
            for name, part in parts.items()
        ),
    )


def export_student(run_dir: Path, out: Path) -> ExportReport:
    """Write what `evoloom train` reads of a run, for a machine without the store.

    Raises:
        UsageError: the run does not exist, or `out` cannot be written.
        InvalidRowError: an accepted row is not fit for training.
    """
    found = read_student_rows(run_dir)
    write_student_rows(found, out)
    state = found.run.state.state
    instructions = len({row.key for row in found.exported})
    return ExportReport(
        run_id=found.run.manifest.run_id,
        state=state,
        out=out,
        format="student",
        rows=len(found.rows),
        instructions=instructions,
        complete_positions=found.complete_positions,
        is_partial=state not in SETTLED_STATES,
        parts=(ExportedPart("train", out, len(found.rows), instructions, None),),
    )


def _split(
    run: RunRows, runs_dir: Path, rows: Sequence[ExportRow], share: float, seed: int
) -> tuple[dict[str, list[ExportRow]], dict[str, int]]:
    finder = Roots(runs_dir)
    finder.add(run)
    split = split_rows(
        [finder.root_of(run.manifest.run_id, row.instruction) for row in rows],
        [row.instruction.text for row in rows],
        share,
        seed,
    )
    train = [row for number, row in enumerate(rows) if number not in split.validation]
    validation = [row for number, row in enumerate(rows) if number in split.validation]
    return (
        {"train": train, "validation": validation},
        {"train": split.training_roots, "validation": split.validation_roots},
    )
