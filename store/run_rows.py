"""A run's rows read from its run directory: what the store would show, without opening DuckDB."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.records import (
    CompletionRow,
    InstanceRow,
    InstructionRow,
    Position,
    Usage,
    row_id,
)
from store.run_directory import Manifest, RunState, read_manifest, read_state, spool_path
from store.spool import read_batches


@dataclass(frozen=True, slots=True)
class RunRows:
    """The latest state of every row of a run, by id, in admission order.

    `generation_positions` counts the positions of generation, or of evolution, in the spool.
    """

    manifest: Manifest
    state: RunState
    completions: dict[str, CompletionRow]
    instructions: dict[str, InstructionRow]
    instances: dict[str, InstanceRow]
    generation_positions: int

    def instances_by_instruction(self) -> dict[str, list[InstanceRow]]:
        """Instances by the id of their instruction, in the order they were parsed."""
        grouped: dict[str, list[InstanceRow]] = {}
        for row in self.instances.values():
            key = row_id(self.manifest.run_id, row.stage, row.position)
            grouped.setdefault(key, []).append(row)
        return grouped


RunSource: TypeAlias = Path | RunRows
"""A run directory, or what was read from it before."""


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """One count of the funnel, as the view `funnel` has it."""

    step: int
    subject: str
    stage: str
    outcome: str
    reason: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """How many completions, instructions and instances came to which end, in the view's order."""

    rows: tuple[FunnelRow, ...]

    def count(self, subject: str, outcome: str, *, stage: str | None = None) -> int:
        """The number of `subject` with an outcome, all reasons together; 0 where there are none."""
        return sum(
            row.count
            for row in self.rows
            if row.subject == subject and row.outcome == outcome and stage in (None, row.stage)
        )

    def reasons(self, subject: str, outcome: str, *, stage: str | None = None) -> dict[str, int]:
        """Counts by reason, the most frequent first."""
        counts: Counter[str] = Counter()
        for row in self.rows:
            if row.subject == subject and row.outcome == outcome and stage in (None, row.stage):
                counts[row.reason or ""] += row.count
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class Sample:
    """An accepted instance with its instruction, to be shown to a person."""

    instruction: str
    input: str
    output: str
    is_classification: bool | None


@dataclass(frozen=True, slots=True)
class StageUsage:
    """Requests and tokens of one stage.

    `without_usage` answers came without a count; `reserved_tokens`, what was set aside for them,
    stands in for it. A refusal (it has no text) cost nothing.
    """

    stage: str
    requests: int
    usage: Usage
    without_usage: int
    reserved_tokens: int


@dataclass(frozen=True, slots=True)
class EvolutionCount:
    """What one operator made in one round, as the view `evolution` has it; the source has neither
    round nor operator."""

    round: int | None
    operator: str | None
    evolutions: int
    accepted: int
    difficulties: tuple[int, ...]
    """Ratings of the accepted, ascending."""


_COMPLETION_STEPS = {"used": 2, "discarded": 3}
_INSTRUCTION_STEPS = {"pending": 17, "left_out": 18, "without_instances": 19, "surplus": 20}
_INSTANCE_STEPS = {"rejected": 32, "surplus": 33}
_CLASSIFIED = {True: (14, "classification"), False: (15, "not_classification")}


def read_run_rows(run_dir: Path) -> RunRows:
    """Read a run directory.

    Raises:
        EvoloomError: a file of it is damaged.
    """
    manifest = read_manifest(run_dir)
    state = read_state(run_dir)
    run_id = manifest.run_id
    completions: dict[str, CompletionRow] = {}
    instructions: dict[str, InstructionRow] = {}
    instances: dict[str, InstanceRow] = {}
    generation_positions = 0
    for _, batch in read_batches(spool_path(run_dir)):
        if batch.stream in ("generate", "evolve"):
            generation_positions = batch.position[0] + 1
        for completion in batch.completions:
            key = row_id(run_id, completion.stage, completion.position, completion.attempt)
            completions[key] = completion
        for instruction in batch.instructions:
            instructions[row_id(run_id, instruction.stage, instruction.position)] = instruction
        for instance in batch.instances:
            key = row_id(run_id, instance.stage, instance.position, instance.index)
            instances[key] = instance
    return RunRows(
        manifest,
        state,
        dict(sorted(completions.items(), key=lambda row: (row[1].position, row[1].attempt))),
        dict(sorted(instructions.items(), key=lambda row: _order(row[1]))),
        dict(sorted(instances.items(), key=lambda row: (*_order(row[1]), row[1].index))),
        generation_positions,
    )


def _order(row: InstructionRow | InstanceRow) -> tuple[bool, Position]:
    """Admission order: what an evolution started from, then what was made."""
    return row.stage != "source", row.position


def funnel(run: RunSource) -> Funnel:
    """A run's funnel; the same rows as the view `funnel` has after ingesting it."""
    rows = _rows(run)
    counts: Counter[tuple[int, str, str, str, str | None]] = Counter()
    for completion in rows.completions.values():
        step = _COMPLETION_STEPS.get(completion.state, 4)
        counts[1, "completions", completion.stage, "requested", None] += 1
        counts[step, "completions", completion.stage, completion.state, completion.reason] += 1
    for instruction in rows.instructions.values():
        stage, state, reason = instruction.stage, instruction.state, instruction.reason
        counts[11, "instructions", stage, "parsed", None] += 1
        if state == "rejected":
            counts[12, "instructions", stage, "rejected", reason] += 1
            continue
        counts[13, "instructions", stage, "admitted", None] += 1
        step, outcome = (16, "unclassified")
        if instruction.is_classification is not None:
            step, outcome = _CLASSIFIED[instruction.is_classification]
        counts[step, "instructions", stage, outcome, None] += 1
        counts[_INSTRUCTION_STEPS.get(state, 21), "instructions", stage, state, reason] += 1
    for instance in rows.instances.values():
        step = _INSTANCE_STEPS.get(instance.state, 34)
        counts[31, "instances", instance.stage, "parsed", None] += 1
        counts[step, "instances", instance.stage, instance.state, instance.reason] += 1
    found = [FunnelRow(*key, count) for key, count in counts.items()]
    # As the view orders them: a missing reason last among equal counts.
    found.sort(key=lambda row: (row.step, row.stage, -row.count, row.reason is None, row.reason))
    return Funnel(tuple(found))


def sample_instances(run: RunSource, n: int) -> tuple[Sample, ...]:
    """Up to `n` accepted instances, each of another instruction, spread evenly over the run."""
    rows = _rows(run)
    grouped = rows.instances_by_instruction()
    found = []
    for key, instruction in rows.instructions.items():
        if instruction.state != "accepted":
            continue
        first = next((row for row in grouped.get(key, ()) if row.state == "accepted"), None)
        if first is not None:
            found.append(
                Sample(instruction.text, first.input, first.output, instruction.is_classification)
            )
    if n >= len(found):
        return tuple(found)
    return tuple(found[index * len(found) // n] for index in range(n))


def prompts_with_two_machine_shots(run: RunSource) -> int:
    """How many generation prompts held at least two instructions that the run itself had made."""
    return sum(
        sum(shot.source == "machine" for shot in completion.shots) >= 2
        for completion in _rows(run).completions.values()
    )


def stage_usage(run: RunSource) -> tuple[StageUsage, ...]:
    """Requests and tokens per stage, in the order the stages first answered."""
    stages: dict[str, StageUsage] = {}
    for row in _rows(run).completions.values():
        old = stages.get(row.stage, StageUsage(row.stage, 0, Usage(), 0, 0))
        is_uncounted = row.usage is None and row.text is not None
        stages[row.stage] = StageUsage(
            row.stage,
            old.requests + 1,
            old.usage + (row.usage or Usage()),
            old.without_usage + is_uncounted,
            old.reserved_tokens + (row.reserved_tokens if is_uncounted else 0),
        )
    return tuple(stages.values())


def evolution_counts(run: RunSource) -> tuple[EvolutionCount, ...]:
    """An evolution's instructions by round and operator, the source first; none in other runs."""
    groups: dict[tuple[int, str], list[InstructionRow]] = {}
    for row in _rows(run).instructions.values():
        if row.stage in ("source", "evolve"):
            key = (-1 if row.round is None else row.round, row.operator or "")
            groups.setdefault(key, []).append(row)
    return tuple(
        EvolutionCount(
            None if key[0] < 0 else key[0],
            key[1] or None,
            len(rows),
            sum(row.state == "accepted" for row in rows),
            tuple(sorted(row.difficulty for row in rows
                         if row.difficulty is not None and row.state == "accepted")),
        )
        for key, rows in sorted(groups.items())
    )  # fmt: skip


def _rows(run: RunSource) -> RunRows:
    return run if isinstance(run, RunRows) else read_run_rows(run)
