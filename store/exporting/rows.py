"""Which rows an export holds, and in which order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import EvoloomError
from pipeline.records import InstanceRow, InstructionRow
from store.run_directory import SETTLED_STATES
from store.run_rows import RunRows

_ADMITTING_STAGES = ("generate", "evolve")
"""Stages whose positions may be open while later ones are settled."""


class InvalidRowError(EvoloomError):
    """Raised when a row that a trainer would choke on was about to be exported; nothing is written."""


@dataclass(frozen=True, slots=True)
class ExportRow:
    """An instance with its instruction; `key` is the instruction's id."""

    key: str
    instruction: InstructionRow
    instance: InstanceRow


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
    """Accepted instructions with their accepted instances: those of the first generation positions,
    and all of a source, an import or a dataset version."""
    for _, instruction, instances in keyed_rows(run, positions):
        yield instruction, instances


def keyed_rows(
    run: RunRows, positions: int
) -> Iterator[tuple[str, InstructionRow, list[InstanceRow]]]:
    """`accepted_rows`, each with the instruction's id."""
    grouped = run.instances_by_instruction()
    for key, instruction in run.instructions.items():
        if instruction.state != "accepted":
            continue
        if instruction.stage in _ADMITTING_STAGES and instruction.position[0] >= positions:
            continue
        instances = [row for row in grouped.get(key, ()) if row.state == "accepted"]
        if not instances:
            raise InvalidRowError(
                f"instruction {place_of(instruction)} is accepted and has no accepted instance; the "
                "run directory was altered, or this is a fault of evoloom: please report it"
            )
        yield key, instruction, instances


def export_rows(run: RunRows, positions: int) -> list[ExportRow]:
    """The rows of an export, in (admission, instance) order.

    An evolution shuffles that by its seed (arXiv 2304.12244, section 4.2), and a dataset version
    that holds one by its content's hash.
    """
    rows = [
        ExportRow(key, instruction, instance)
        for key, instruction, instances in keyed_rows(run, positions)
        for instance in instances
    ]
    seed = shuffle_seed(run)
    if seed is not None:
        random.Random(f"{seed}/export").shuffle(rows)  # noqa: S311 - not secret
    return rows


def shuffle_seed(run: RunRows) -> int | str | None:
    """What the order of a run's export is drawn from; None where admission order stays."""
    manifest = run.manifest
    if manifest.kind == "evol-instruct":
        return manifest.run_seed
    is_shuffled = manifest.kind == "dataset" and manifest.raw.get("shuffled")
    return str(manifest.raw["content_hash"]) if is_shuffled else None


def place_of(row: InstructionRow | InstanceRow) -> str:
    """Where an instruction stands in its run, as messages say it."""
    return f"{row.stage}/{'.'.join(map(str, row.position))}"
