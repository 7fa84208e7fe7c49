"""What every implementation of the index must do; the index itself keeps texts and locks."""

from collections.abc import Sequence, Set
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Verdict = tuple[int, float]
"""Entry number of the earliest pool entry that fires and its score; (-1, 0.0) when none does."""

NOVEL: Verdict = (-1, 0.0)


class Engine(Protocol):
    """One way to find blockers. Entries are numbered from 0 in the order in which they join."""

    def add(self, texts: Sequence[str]) -> None:
        """Let texts join the pool unchecked."""

    def admit(self, texts: Sequence[str]) -> list[Verdict]:
        """Judge texts in sequence; each that is novel joins the pool before the next is judged."""

    def check(self, text: str) -> Verdict:
        """Judge one text and change nothing."""

    def scores(self, text: str) -> NDArray[np.float64]:
        """Return the F-measure with every entry in entry order; of retracted ones any value."""

    def nearest(self, texts: Sequence[str], k: int, hidden: Set[int]) -> list[list[Verdict]]:
        """Return for each text the k highest scores with their entries, best first, the earlier
        among equals. Entries in `hidden` are not found."""

    def retract(self, entry: int) -> None:
        """Let an entry stop blocking."""

    def untokenized(self) -> int:
        """Return how many texts given to `add` and `admit` have letters but no tokens."""

    def maintain(self) -> None:
        """Put the engine in order for the size it has reached; readers may be at work meanwhile."""


def highest(scores: NDArray[np.float64], k: int, hidden: Set[int]) -> list[Verdict]:
    """Return the k highest of all scores as `Engine.nearest` does."""
    if hidden:
        scores = scores.copy()
        scores[list(hidden)] = -1.0
    k = min(k, len(scores) - len(hidden))
    if k <= 0:
        return []
    candidates = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    best = candidates[np.argsort(-scores[candidates], kind="stable")][:k]
    return list(zip(best.tolist(), scores[best].tolist(), strict=True))
