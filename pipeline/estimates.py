"""What a run would take, reckoned before it starts: requests, tokens, money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.records import Usage


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """One stage: requests expected, and the mean length of prompt and answer in tokens."""

    stage: str
    requests: float
    prompt_tokens: float
    completion_tokens: float

    @property
    def usage(self) -> Usage:
        """Tokens of all its requests; none is taken to be cached."""
        return Usage(
            round(self.requests * self.prompt_tokens), round(self.requests * self.completion_tokens)
        )


@dataclass(frozen=True, slots=True)
class Estimate:
    """A whole run.

    `most_requests` is the limit that the method sets, whatever the teacher answers; `pool` is how
    large the result pool is after each round of an evolution, the source first.
    """

    stages: Sequence[StageEstimate]
    most_requests: int
    pool: Sequence[float] = ()

    @property
    def usage(self) -> Usage:
        """Tokens of the whole run."""
        return sum((stage.usage for stage in self.stages), Usage())


def spread(count: int, most: int) -> list[int]:
    """Up to `most` indices below `count`, evenly spread: enough to know a mean length."""
    if count <= most:
        return list(range(count))
    return [index * count // most for index in range(most)]
