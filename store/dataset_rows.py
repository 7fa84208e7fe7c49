"""What a dataset version holds: rows of runs, collected under one recipe, and their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from pipeline.errors import UsageError
from pipeline.records import InstanceRow, InstructionRow
from store.exporting.checking import check_rows, read_turns
from store.exporting.rows import (
    ExportRow,
    InvalidRowError,
    complete_positions,
    keyed_rows,
    shuffle_seed,
)
from store.roots import Roots, origin_of
from store.run_directory import SETTLED_STATES
from store.run_rows import RunRows, read_run_rows

STAGE = "dataset"
_HASHED_AS = b"evoloom dataset 1\n"
_InstanceKey: TypeAlias = tuple[str, str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class InputCount:
    """What one run has accepted, and how much of it an earlier run did not have already.

    `model` is the teacher's; None for an import or a dataset version.
    """

    run_id: str
    kind: str
    model: str | None
    instructions: int
    instances: int
    new_instructions: int
    new_instances: int


@dataclass(frozen=True, slots=True)
class Collected:
    """Rows as a dataset version has them, in its order; `is_shuffled` says that exports shuffle.

    `rejected` are kept beside them, to be looked into: instances that curation kept out, each with
    its instruction, which is rejected itself where nothing of it is left.
    """

    rows: tuple[tuple[InstructionRow, tuple[InstanceRow, ...]], ...]
    inputs: tuple[InputCount, ...]
    content_hash: str
    is_shuffled: bool
    rejected: tuple[tuple[InstructionRow, tuple[InstanceRow, ...]], ...] = ()

    @property
    def instances(self) -> int:
        """How many instances there are."""
        return sum(len(instances) for _, instances in self.rows)


def collect_accepted(runs_dir: Path, run_ids: Sequence[str]) -> Collected:
    """All that these runs accepted, in their order: the recipe `all-accepted`.

    Instructions of the same text become one, with the instances of all; an instance that an earlier
    run has too is taken once. What a single run has twice, it keeps twice.

    Raises:
        UsageError: a run is not settled, or nothing was accepted.
        InvalidRowError: a row is not fit for training.
    """
    collector = _Collector(runs_dir)
    counts = [collector.add(_settled(runs_dir / run_id)) for run_id in run_ids]
    rows = collector.finished()
    if not rows:
        raise UsageError(f"nothing was accepted in {', '.join(run_ids)}; a dataset needs a row")
    return Collected(rows, tuple(counts), content_hash(rows), collector.is_shuffled)


def content_hash(rows: Iterable[tuple[InstructionRow, Sequence[InstanceRow]]]) -> str:
    """`sha256:` and the hash of what a trainer can see of a dataset.

    Each instance is the JSON list [instruction, is_classification, difficulty, system, input,
    output, further turns] in ASCII without spaces; the SHA-256 digests of these, sorted, are hashed
    again behind the line `evoloom dataset 1`. So it says which instances there are, how often, and
    nothing about their order, the runs they come from, or when.
    """
    digests = sorted(
        hashlib.sha256(_canonical(instruction, instance)).digest()
        for instruction, instances in rows
        for instance in instances
    )
    return f"sha256:{hashlib.sha256(_HASHED_AS + b''.join(digests)).hexdigest()}"


def content_hash_of(run_dir: Path) -> str:
    """The hash of the accepted rows that a dataset version's directory holds now; its manifest has
    that of those it was made with under `content_hash`.

    Raises:
        EvoloomError: the directory cannot be read.
    """
    run = read_run_rows(run_dir)
    grouped = run.instances_by_instruction()
    return content_hash(
        (row, [instance for instance in grouped.get(key, ()) if instance.state == "accepted"])
        for key, row in run.instructions.items()
    )


def instance_key(row: InstanceRow) -> _InstanceKey:
    """What makes an instance of an instruction the same as another."""
    return row.input, row.output, row.system, row.further_turns


class _Collector:
    def __init__(self, runs_dir: Path) -> None:
        self.is_shuffled = False
        self._roots = Roots(runs_dir)
        self._instructions: list[InstructionRow] = []
        self._instances: list[list[InstanceRow]] = []
        self._by_text: dict[str, int] = {}
        self._merged_roots: dict[str, str] = {}

    def add(self, run: RunRows) -> InputCount:
        manifest = run.manifest
        self._roots.add(run)
        self.is_shuffled |= shuffle_seed(run) is not None
        earlier: dict[int, frozenset[_InstanceKey]] = {}
        instructions = instances = new_instances = 0
        known = len(self._instructions)
        for key, instruction, rows in keyed_rows(run, complete_positions(run)):
            _check(manifest.run_id, [ExportRow(key, instruction, row) for row in rows])
            instructions += 1
            instances += len(rows)
            number = self._place(manifest.run_id, instruction)
            there = self._instances[number]
            if number not in earlier:
                earlier[number] = frozenset(map(instance_key, there))
            new = [row for row in rows if instance_key(row) not in earlier[number]]
            new_instances += len(new)
            first = there[-1].index + 1 if there else 0
            there += [
                replace(row, stage=STAGE, position=(number,), index=index, reason=None)
                for index, row in enumerate(new, first)
            ]
        return InputCount(
            manifest.run_id,
            manifest.kind,
            manifest.raw.get("model"),
            instructions,
            instances,
            len(self._instructions) - known,
            new_instances,
        )

    def _place(self, run_id: str, row: InstructionRow) -> int:
        root = self._root(self._roots.root_of(run_id, row))
        number = self._by_text.get(row.text)
        if number is None:
            number = self._by_text[row.text] = len(self._instructions)
            self._instructions.append(
                InstructionRow(
                    STAGE, (number,), row.text, "accepted", parent=origin_of(run_id, row), root=root,
                    is_classification=row.is_classification, difficulty=row.difficulty,
                    origin=row.origin,
                )
            )  # fmt: skip
            self._instances.append([])
            return number
        there = self._instructions[number]
        # Both lineages meet in this text: from here on they are one, for whatever descends from it.
        ours = self._root(str(there.root))
        if ours != root:
            self._merged_roots[root] = ours
        # What one run does not know of a text, another may.
        if there.is_classification is None:
            there = replace(there, is_classification=row.is_classification)
        if there.difficulty is None:
            there = replace(there, difficulty=row.difficulty)
        self._instructions[number] = there
        return number

    def _root(self, root: str) -> str:
        while root in self._merged_roots:
            root = self._merged_roots[root]
        return root

    def finished(self) -> tuple[tuple[InstructionRow, tuple[InstanceRow, ...]], ...]:
        return tuple(
            (self._with_merged_root(instruction), tuple(instances))
            for instruction, instances in zip(self._instructions, self._instances, strict=True)
        )

    def _with_merged_root(self, row: InstructionRow) -> InstructionRow:
        root = self._root(str(row.root))
        return row if root == row.root else replace(row, root=root)


def _check(run_id: str, rows: Sequence[ExportRow]) -> None:
    try:
        check_rows(rows)
    except InvalidRowError as exc:
        raise InvalidRowError(f"run {run_id}, {exc}") from exc


def _settled(run_dir: Path) -> RunRows:
    run = read_run_rows(run_dir)
    state, run_id = run.state.state, run.manifest.run_id
    if state not in SETTLED_STATES:
        raise UsageError(
            f"run {run_id} is {state}; a dataset version never changes, so it takes only runs that "
            f"have ended. `evoloom resume {run_id}` goes on with it; `evoloom export {run_id}` gives "
            "what there is now"
        )
    return run


def _canonical(instruction: InstructionRow, instance: InstanceRow) -> bytes:
    try:
        turns: object = read_turns(instance.further_turns)
    except (ValueError, TypeError):  # not what was written: so it hashes to something else
        turns = instance.further_turns
    value = [
        instruction.text, instruction.is_classification, instruction.difficulty, instance.system,
        instance.input, instance.output, turns,
    ]  # fmt: skip
    return json.dumps(value, separators=(",", ":")).encode()
