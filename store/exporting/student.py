"""The hand-over to `evoloom train`: what it reads of a run, and the same as a file, so that a student
can be trained on another machine than the store's.

One JSON object a line: `instance_id`, `root` (the lineage, by which training holds examples out),
`instruction`, `input`, `output`, `is_classification`, `system`, `turns` (what was said after the
output, as [user, assistant]). Unlike the other formats it names rows by their ids in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.exporting.checking import check_rows, read_turns
from store.exporting.rows import ExportRow, complete_positions, export_rows
from store.exporting.writing import write_files, write_lines
from store.frames import instance_id
from store.roots import Roots
from store.run_directory import find_runs
from store.run_rows import RunRows, read_run_rows
from store.text import storable

FORMAT = "student"


@dataclass(frozen=True, slots=True)
class StudentRows:
    """The accepted instances of a run, each with its id and its lineage root."""

    run: RunRows
    exported: Sequence[ExportRow]
    complete_positions: int
    rows: list[dict[str, Any]]


def read_student_rows(run_dir: Path) -> StudentRows:
    """What a training on this run, import or dataset version reads.

    Raises:
        UsageError: there is no such run.
        InvalidRowError: an accepted row is not fit for training.
    """
    find_runs(run_dir.parent, [run_dir.name])
    run = read_run_rows(run_dir)
    positions = complete_positions(run)
    exported = export_rows(run, positions)
    check_rows(exported)
    roots = Roots(run_dir.parent)
    roots.add(run)
    run_id = run.manifest.run_id
    rows = [_row(run_id, row, roots.root_of(run_id, row.instruction)) for row in exported]
    return StudentRows(run, exported, positions, rows)


def write_student_rows(found: StudentRows, out: Path) -> None:
    """Write the rows as JSON Lines.

    Raises:
        UsageError: `out` cannot be written.
    """
    write_files({out: lambda file: write_lines(file, found.rows)})


def _row(run_id: str, row: ExportRow, root: str) -> dict[str, Any]:
    instance = row.instance
    return {
        "instance_id": instance_id(run_id, instance),
        "root": root,
        "instruction": storable(row.instruction.text),
        "input": storable(instance.input),
        "output": storable(instance.output),
        "is_classification": row.instruction.is_classification,
        "system": None if instance.system is None else storable(instance.system),
        "turns": [
            [storable(user), storable(answer)]
            for user, answer in read_turns(instance.further_turns)
        ],
    }
