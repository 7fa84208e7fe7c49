"""Records of a chunk of batches as Polars frames with the columns of the tables.

Within a chunk only the last state of a row is kept: the tables replace rows by key, and the cheapest
replacement is the one that does not happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, chain
from typing import Any

import polars as pl
import pyarrow

from pipeline.records import (
    Address,
    Batch,
    CompletionRow,
    InstanceRow,
    InstructionRow,
    Position,
    row_id,
)
from store.run_directory import Manifest, parse_utc
from store.text import storable

_POSITION: dict[str, pl.DataType | type[pl.DataType]] = {
    "stage": pl.String,
    "position": pl.List(pl.Int32),
    "generation": pl.Int32,
    "item": pl.Int32,
}
_Schema = dict[str, pl.DataType | type[pl.DataType]]
SCHEMAS: dict[str, _Schema] = {
    "seed_tasks": {
        "run_id": pl.String, "seed_id": pl.String, "ordinal": pl.Int32, "name": pl.String,
        "instruction": pl.String, "is_classification": pl.Boolean,
    },
    "seed_instances": {
        "run_id": pl.String, "seed_id": pl.String, "index": pl.Int32, "input": pl.String,
        "output": pl.String,
    },
    "completions": {
        "id": pl.String, "run_id": pl.String, **_POSITION, "attempt": pl.Int32,
        "state": pl.String, "reason": pl.String, "text": pl.String, "finish_reason": pl.String,
        "prompt_tokens": pl.Int64, "completion_tokens": pl.Int64, "cached_tokens": pl.Int64,
        "reserved_tokens": pl.Int64, "latency_s": pl.Float64, "answered_at": pl.Datetime("us"),
        "model": pl.String, "machine_shots": pl.Int32,
    },
    "shots": {
        "completion_id": pl.String, "slot": pl.Int32, "run_id": pl.String, "source": pl.String,
        "reference": pl.String,
    },
    "instructions": {
        "id": pl.String, "run_id": pl.String, **_POSITION, "text": pl.String,
        "state": pl.String, "reason": pl.String, "evidence": pl.String, "score": pl.Float64,
        "blocker_source": pl.String, "blocker_reference": pl.String, "blocker_text": pl.String,
        "is_classification": pl.Boolean, "parent": pl.String, "parent_id": pl.String,
        "operator": pl.String, "round": pl.Int32, "difficulty": pl.Int32, "origin": pl.String,
        "root_id": pl.String,
    },
    "instances": {
        "id": pl.String, "instruction_id": pl.String, "run_id": pl.String, **_POSITION,
        "index": pl.Int32, "input": pl.String, "output": pl.String, "state": pl.String,
        "reason": pl.String, "is_duplicate": pl.Boolean, "system": pl.String,
        "further_turns": pl.String, "step": pl.Int32, "score": pl.Float64, "evidence": pl.String,
        "scores": pl.String,
    },
}  # fmt: skip
"""Columns of the tables that are filled from a run directory, beside those derived from them
(`DERIVED`)."""
_WORD = r"[^\s\x1c-\x1f]+"
DERIVED: dict[str, dict[str, pl.Expr]] = {
    "instructions": {"words": pl.col("text").str.count_matches(_WORD).cast(pl.Int32)},
    "instances": {
        "input_words": pl.col("input").str.count_matches(_WORD).cast(pl.Int32),
        "output_words": pl.col("output").str.count_matches(_WORD).cast(pl.Int32),
    },
}
"""Columns worked out when rows are ingested, so that no view has to: lengths in words, as
`str.split` counts them."""

_Values = tuple[Any, ...]


def batch_frames(run_id: str, batches: Iterable[Batch]) -> dict[str, pl.DataFrame]:
    """The tables' new and changed rows."""
    completions: dict[str, CompletionRow] = {}
    instructions: dict[str, InstructionRow] = {}
    instances: dict[str, InstanceRow] = {}
    for batch in batches:
        for completion in batch.completions:
            completions[completion_id(run_id, completion)] = completion
        for instruction in batch.instructions:
            instructions[row_id(run_id, instruction.stage, instruction.position)] = instruction
        for instance in batch.instances:
            instances[instance_id(run_id, instance)] = instance
    shots = [
        (key, shot.slot, run_id, shot.source, shot.reference)
        for key, row in completions.items()
        for shot in row.shots
    ]
    return {
        "completions": _frame("completions", _rows(run_id, completions, _completion)),
        "shots": _frame("shots", shots),
        "instructions": _derived("instructions", _rows(run_id, instructions, _instruction)),
        "instances": _derived("instances", _rows(run_id, instances, _instance)),
    }


def seed_frames(manifest: Manifest) -> dict[str, pl.DataFrame]:
    """The seed tasks of a run and their instances."""
    run_id = manifest.run_id
    tasks = [
        (run_id, seed.id, ordinal, seed.name, seed.instruction, seed.is_classification)
        for ordinal, seed in enumerate(manifest.seeds)
    ]
    instances = [
        (run_id, seed.id, index, instance.input, instance.output)
        for seed in manifest.seeds
        for index, instance in enumerate(seed.instances)
    ]
    return {
        "seed_tasks": _frame("seed_tasks", tasks),
        "seed_instances": _frame("seed_instances", instances),
    }


def completion_id(run_id: str, row: CompletionRow) -> str:
    """The completion's key; its attempt is the index."""
    return row_id(run_id, row.stage, row.position, row.attempt)


def instance_id(run_id: str, row: InstanceRow) -> str:
    """The instance's key."""
    return row_id(run_id, row.stage, row.position, row.index)


_Row = Any


def _rows(
    run_id: str, rows: dict[str, _Row], values: Callable[[str, str, _Row], _Values]
) -> list[_Values]:
    return [values(run_id, key, row) for key, row in rows.items()]


def _place(stage: str, position: Position) -> _Values:
    return stage, list(position), position[0], position[1] if len(position) > 1 else None


def _completion(run_id: str, key: str, row: CompletionRow) -> _Values:
    usage = row.usage
    tokens = (
        (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
        if usage
        else (None, None, None)
    )
    machine_shots = sum(shot.source == "machine" for shot in row.shots)
    return (
        key, run_id, *_place(row.stage, row.position), row.attempt, row.state, row.reason, row.text,
        row.finish_reason, *tokens, row.reserved_tokens, row.latency_s, parse_utc(row.answered_at),
        row.model, machine_shots,
    )  # fmt: skip


def _instruction(run_id: str, key: str, row: InstructionRow) -> _Values:
    blocker = row.blocker
    blocked = (blocker.source, blocker.reference, blocker.text) if blocker else (None, None, None)
    return (
        key, run_id, *_place(row.stage, row.position), row.text, row.state, row.reason, row.evidence,
        row.score, *blocked, row.is_classification, row.parent, parent_id(run_id, row), row.operator,
        row.round, row.difficulty, row.origin, row.root,
    )  # fmt: skip


def parent_id(run_id: str, row: InstructionRow) -> str | None:
    """The id of the parent's row; of an instruction taken from a run, of its row there."""
    if row.parent is None:
        return None
    if row.stage in ("source", "dataset"):
        address = Address.parse(row.parent.rpartition(" ")[2])
        return row_id(row.parent.rpartition(" ")[0], address.stage, address.position)
    if row.parent.startswith("source:"):
        return row_id(run_id, "source", (int(row.parent.removeprefix("source:")),))
    return row_id(run_id, row.stage, tuple(int(part) for part in row.parent.split(".")))


def _instance(run_id: str, key: str, row: InstanceRow) -> _Values:
    return (
        key, row_id(run_id, row.stage, row.position), run_id, *_place(row.stage, row.position),
        row.index, row.input, row.output, row.state, row.reason, row.is_duplicate, row.system,
        row.further_turns, row.step, row.score, row.evidence, row.scores,
    )  # fmt: skip


def _derived(table: str, rows: Sequence[_Values]) -> pl.DataFrame:
    return _frame(table, rows).with_columns(**DERIVED[table])


def _frame(table: str, rows: Sequence[_Values]) -> pl.DataFrame:
    schema = SCHEMAS[table]
    if not rows:
        return pl.DataFrame(schema=schema)
    columns: dict[str, Any] = dict(zip(schema, zip(*rows, strict=True), strict=True))
    if "position" in columns:
        columns["position"] = _lists(columns["position"])
    try:
        return pl.DataFrame(columns, schema=schema)
    except UnicodeEncodeError:  # a lone surrogate somewhere: rare, so only now look for it
        cleaned = {
            name: column
            if isinstance(column, pl.Series)
            else [storable(value) if isinstance(value, str) else value for value in column]
            for name, column in columns.items()
        }
        return pl.DataFrame(cleaned, schema=schema)


def _lists(rows: Sequence[Sequence[int]]) -> pl.Series:
    """A column of lists of numbers. Polars would look at them one by one, and `pyarrow.array` would
    import pandas where it is installed, which takes seconds."""
    numbers = pl.Series(list(chain.from_iterable(rows)), dtype=pl.Int32).to_arrow()
    ends = pl.Series([0, *accumulate(map(len, rows))], dtype=pl.Int32).to_arrow()
    lists = pl.from_arrow(pyarrow.ListArray.from_arrays(ends, numbers))
    assert isinstance(lists, pl.Series)
    return lists
