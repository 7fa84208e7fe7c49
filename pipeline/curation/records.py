"""What steps take and give. All are frozen; a step never changes a candidate but for its scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """An instance that may enter the dataset, with its instruction.

    `number` is its place among all candidates, `group` its instruction's among all instructions.
    `scores` are what earlier steps found, by the score's name.
    """

    number: int
    group: int
    instruction: str
    input: str
    output: str
    is_classification: bool | None = None
    system: str | None = None
    further_turns: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """Instruction and input as one text."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction

    @cached_property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """What a conversation says after the first answer, as (user, assistant)."""
        found = json.loads(self.further_turns) if self.further_turns else []
        return tuple((user, assistant) for user, assistant in found)

    @property
    def responses(self) -> tuple[str, ...]:
        """All that the assistant says."""
        return (self.output, *(answer for _, answer in self.turns))

    def texts(self) -> list[str]:
        """Every text of it: system message, prompt, answers, further turns."""
        first = [self.system] if self.system else []
        return [*first, self.prompt, self.output, *(text for turn in self.turns for text in turn)]

    def scored(self, **scores: float) -> Candidate:
        """The candidate with further scores."""
        return replace(self, scores={**self.scores, **scores})


@dataclass(frozen=True, slots=True)
class Reject:
    """A candidate that a step keeps out, and why.

    `score` is the number that decided, `evidence` what was seen, such as the text that it is too
    near to.
    """

    candidate: Candidate
    reason: str
    score: float | None = None
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step decided; each candidate is in one of the two, in the order in which they came.

    `details` are for the record, as JSON values: they say nothing of when or where.
    """

    kept: Sequence[Candidate]
    rejected: Sequence[Reject] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step of a recipe that was run; `number` counts from 1."""

    number: int
    step: str
    parameters: Mapping[str, Any]
    instructions_in: int
    instances_in: int
    instructions_out: int
    instances_out: int
    reasons: Mapping[str, int]
    """Rejected instances by reason, the most frequent first."""
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Curated:
    """What a recipe makes of candidates; `rejected` holds the number of the step of each reject."""

    kept: Sequence[Candidate]
    rejected: Sequence[tuple[int, Reject]]
    steps: Sequence[StepReport]
