"""The records of an evaluation: what is asked, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, TypeAlias

Part: TypeAlias = Literal["held_out", "tasks", "user_oriented", "benchmark"]
Student: TypeAlias = Literal["base", "tuned"]
STUDENTS: tuple[Student, Student] = ("base", "tuned")
Metric: TypeAlias = str
"""`rouge_l`, `exact_match`, `nll`, `judge`, or a benchmark's own."""


@dataclass(frozen=True, slots=True)
class EvaluationFile:
    """A file of evaluation items, as it was when the evaluation began.

    `sha256` is of the file's bytes, of the held-out split's rows for `held_out`; `items` counts what
    the file holds, not what was drawn of it.
    """

    number: int
    part: Part
    name: str
    sha256: str
    items: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `asdict` wrote."""
        return cls(**value)


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One prompt with what a good answer is.

    `number` is its place in its file, from 0, whatever was drawn. `task` is what the bootstrap
    resamples first: the task's name, or the lineage root of a held-out instruction.
    """

    file: int
    number: int
    part: Part
    name: str
    task: str
    instruction: str
    input: str
    references: tuple[str, ...]
    category: str | None = None
    is_classification: bool = False
    system: str | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Where its answers stand in the run's journal."""
        return self.file, self.number

    def to_json(self) -> dict[str, Any]:
        """The row of `items.jsonl`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a row of `items.jsonl`."""
        return cls(**{**value, "references": tuple(value["references"])})


@dataclass(frozen=True, slots=True)
class Score:
    """What one student got for one item, or the judge's verdict on both (student None: 1 where the
    tuned one won, 0 for a tie, -1 where the base did).

    `weight` is what a mean counts it by: tokens for `nll`, else 1.
    """

    file: int
    number: int
    metric: Metric
    student: Student | None
    value: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference with the ends of its bootstrap interval."""

    difference: float
    low: float
    high: float

    @property
    def is_above_zero(self) -> bool:
        """Whether all of it lies above zero."""
        return self.low > 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Base against tuned for one metric over some items of one file.

    `group` is `all`, a category or a task. For `judge` base and tuned are the shares of items that
    each won. `nll` is in nats a token.
    """

    file: int
    part: Part
    name: str
    group: str
    metric: str
    items: int
    base: float
    tuned: float
    interval: Interval
    notes: Mapping[str, int] = field(default_factory=dict)
    """Counts that belong to it: ties, inconsistent orders, verdicts that could not be read ..."""
    is_lower_better: bool = False
    """What a benchmark says of its own metric."""
