"""The best by a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, PositiveInt

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome
from pipeline.curation.step import Step, keep_numbers


class TopStep(Step):
    """Those with the highest score, or the lowest; among equals the earlier one."""

    step: ClassVar[str] = "top_k"

    count: PositiveInt
    """How many are kept; all of them where there are fewer."""
    by: str = Field(min_length=1)
    """The score, by the name that an earlier step gives it, such as `ifd`."""
    lowest: bool = False
    """Keep those with the lowest score instead."""

    def needs(self) -> tuple[str, ...]:
        """The score."""
        return (self.by,)

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep the best, in the order in which they came; the score of a reject is its own."""
        sign = 1 if self.lowest else -1
        ranked = sorted(candidates, key=lambda item: (sign * item.scores[self.by], item.number))
        chosen = frozenset(item.number for item in ranked[: self.count])
        return keep_numbers(candidates, chosen, f"not_in_top_{self.by}", self.by)
