"""Exports: a run's accepted instances as a file that trainers read.

An export reads the run directory, never DuckDB, so that it works while somebody holds the live file.
Its data is a function of the run's rows: no run id, no clock, rows in (admission, instance) order,
which an evolution shuffles by its seed.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pipeline.errors import EvoloomError, UsageError
from pipeline.records import InstanceRow, InstructionRow
from store import checked_lines
from store.run_directory import SETTLED_STATES, find_runs
from store.run_rows import RunRows, read_run_rows
from store.text import storable

ExportFormat: TypeAlias = Literal["alpaca"]
"""Formats of an export."""
SHUFFLED_KIND = "evol-instruct"
"""Runs whose export is shuffled by the run's seed (arXiv 2304.12244, section 4.2)."""
STANDARD_OUTPUT = Path("-")
"""OUT that means standard output."""

AlpacaRow: TypeAlias = dict[str, str]


class InvalidRowError(EvoloomError):
    """Raised when a row that a trainer would choke on was about to be exported; nothing is written."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export holds.

    `is_partial` says that the run is not completed: then the data is its longest complete prefix,
    the first `complete_positions` generation positions.
    """

    run_id: str
    state: str
    out: Path
    format: ExportFormat
    rows: int
    instructions: int
    complete_positions: int
    is_partial: bool


def export_run(run_dir: Path, format: ExportFormat, out: Path) -> ExportReport:
    """Write a run's accepted instances to `out`.

    Args:
        format: `alpaca`: objects with `instruction`, `input`, `output`.
        out: JSON Lines, or one JSON array where the name ends in `.json`; `-` is standard output.

    Raises:
        UsageError: the run does not exist, the format is unknown, or `out` cannot be written.
        InvalidRowError: an accepted row is not fit for training.
    """
    if format != "alpaca":
        raise UsageError(f"format {format!r} is not known; known: alpaca")
    find_runs(run_dir.parent, [run_dir.name])
    run = read_run_rows(run_dir)
    positions = complete_positions(run)
    instructions = rows = 0
    lines: list[str] = []
    for instruction, instances in accepted_rows(run, positions):
        instructions += 1
        for instance in instances:
            row = _alpaca_row(instruction, instance)
            lines.append(json.dumps(row, ensure_ascii=False))
            rows += 1
    if run.manifest.kind == SHUFFLED_KIND:
        random.Random(f"{run.manifest.run_seed}/export").shuffle(lines)  # noqa: S311 - not secret
    if out.suffix == ".json":
        text = "[\n" + ",\n".join(lines) + ("\n]\n" if lines else "]\n")
    else:
        text = "".join(f"{line}\n" for line in lines)
    _write(out, text.encode())
    return ExportReport(
        run_id=run.manifest.run_id,
        state=run.state.state,
        out=out,
        format=format,
        rows=rows,
        instructions=instructions,
        complete_positions=positions,
        is_partial=run.state.state not in SETTLED_STATES,
    )


def complete_positions(run: RunRows) -> int:
    """The length of the run's longest complete prefix, in positions of generation or evolution.

    A position is complete when everything admitted from it is settled. In a settled run nothing
    before the last accepted instruction is open, and what is open beyond it does not count.
    """
    if run.state.state in SETTLED_STATES:
        return run.generation_positions
    open_positions = (
        row.position[0] for row in run.instructions.values() if row.state == "pending"
    )
    return min(open_positions, default=run.generation_positions)


def accepted_rows(
    run: RunRows, positions: int
) -> Iterator[tuple[InstructionRow, list[InstanceRow]]]:
    """Accepted instructions of the first generation positions with their accepted instances."""
    grouped = run.instances_by_instruction()
    for key, instruction in run.instructions.items():
        if instruction.state != "accepted":
            continue
        if instruction.stage != "source" and instruction.position[0] >= positions:
            continue
        instances = [row for row in grouped.get(key, ()) if row.state == "accepted"]
        if not instances:
            raise InvalidRowError(
                f"instruction {_place(instruction)} is accepted and has no accepted instance; the run "
                "directory was altered, or this is a fault of evoloom: please report it"
            )
        yield instruction, instances


def _alpaca_row(instruction: InstructionRow, instance: InstanceRow) -> AlpacaRow:
    # The spool is JSON, so that a null is possible whatever the records' types say.
    row: dict[str, Any] = {
        "instruction": instruction.text,
        "input": instance.input,
        "output": instance.output,
    }
    for name, value in row.items():
        if not isinstance(value, str) or (name != "input" and not value.strip()):
            raise InvalidRowError(
                f"instance {instance.index} of instruction {_place(instruction)}: {name} is "
                f"{'empty' if isinstance(value, str) else repr(value)}, which trainers choke on; "
                "nothing was written. The run's filters should have kept it out: check "
                "`evoloom runs show`, or re-derive the run with them on"
            )
    return {name: storable(value) for name, value in row.items()}


def _place(instruction: InstructionRow) -> str:
    return f"{instruction.stage}/{'.'.join(map(str, instruction.position))}"


def _write(out: Path, data: bytes) -> None:
    try:
        if out == STANDARD_OUTPUT:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        elif out.exists() and not out.is_file() and not out.is_dir():
            out.write_bytes(data)  # a pipe or a device: there is nothing to replace
        elif out.is_dir():
            raise UsageError(f"{out}: is a directory; name a file in it")
        else:
            # Through a symbolic link the file is replaced, not the link.
            checked_lines.write_atomically(Path(os.path.realpath(out)), data)
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise UsageError(f"{out}: cannot be written: {exc.strerror or exc}") from exc
