"""A random sample."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from pydantic import PositiveInt

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome
from pipeline.curation.step import Step, keep_numbers


class RandomStep(Step):
    """Every candidate has the same chance; the draw is by the recipe's seed."""

    step: ClassVar[str] = "random"

    count: PositiveInt
    """How many are kept; all of them where there are fewer."""

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep a sample, in the order in which it came."""
        rng = random.Random(f"{context.seed}/{self.step}")  # noqa: S311 - not secret
        numbers = [item.number for item in candidates]
        chosen = rng.sample(numbers, min(self.count, len(numbers)))
        return keep_numbers(candidates, frozenset(chosen), "not_sampled")
