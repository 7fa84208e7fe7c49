"""What a step of a recipe is. A new one is one file in `pipeline/curation/steps/`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.sections import Section


class Step(Section):
    """A step: its fields are the parameters that a recipe may set, with their defaults.

    A step is deterministic: the same candidates, parameters and seed give the same outcome. A random
    draw is `random.Random(f"{context.seed}/{self.step}/...")`.
    """

    step: ClassVar[str]
    """The name by which recipes call it."""
    makes: ClassVar[tuple[str, ...]] = ()
    """Names of the scores that it can give to candidates."""

    def gives(self) -> tuple[str, ...]:
        """Scores that every candidate has that it keeps."""
        return self.makes

    def needs(self) -> tuple[str, ...]:
        """Scores that an earlier step must have made."""
        return ()

    def check(self, context: Context) -> None:
        """Check, before any step has begun, that files and models it needs are there.

        Raises:
            UsageError: one is not; the message says what to do.
        """

    @abstractmethod
    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Say which candidates stay."""


def split(
    candidates: Sequence[Candidate], judge: Callable[[Candidate], Reject | None]
) -> tuple[list[Candidate], list[Reject]]:
    """Candidates that `judge` has nothing against, and the rejects."""
    kept: list[Candidate] = []
    rejected: list[Reject] = []
    for candidate in candidates:
        found = judge(candidate)
        if found is None:
            kept.append(candidate)
        else:
            rejected.append(found)
    return kept, rejected


def keep_numbers(
    candidates: Sequence[Candidate], numbers: frozenset[int], reason: str, score: str | None = None
) -> Outcome:
    """Keep the candidates with these numbers; the others are rejected, with the score named."""

    def judge(candidate: Candidate) -> Reject | None:
        if candidate.number in numbers:
            return None
        return Reject(candidate, reason, candidate.scores[score] if score else None)

    return Outcome(*split(candidates, judge))
