"""How many acceptances the requests in flight will bring: an estimate, for the gate alone."""

from __future__ import annotations

# Weight of the first guesses, in observations: enough to keep one lucky answer from closing the
# gate, little enough to be forgotten after a window.
_PRIOR_WEIGHT = 2.0
_PRIOR_PER_COMPLETION = 2.0
_PRIOR_KEPT = 0.9


class YieldEstimate:
    """Counts what was sent and what came of it. It may be wrong: it changes waste, never data."""

    def __init__(self) -> None:
        self._generations_out = 0
        self._generations_done = 0
        self._admitted = 0
        self._settled = 0
        self._kept = 0

    def generation_sent(self) -> None:
        """A generation request went out."""
        self._generations_out += 1

    def generation_applied(self, admitted: int) -> None:
        """A generation outcome was applied; it brought `admitted` instructions."""
        self._generations_out = max(0, self._generations_out - 1)
        self._generations_done += 1
        self._admitted += admitted

    def settled(self, kept: bool) -> None:
        """An admitted instruction was settled, with or without instances."""
        self._settled += 1
        self._kept += kept

    def expected(self) -> float:
        """Acceptances there are, in whatever order, and those to come from what is under way."""
        kept = (self._kept + _PRIOR_KEPT * _PRIOR_WEIGHT) / (self._settled + _PRIOR_WEIGHT)
        per_completion = (self._admitted + _PRIOR_PER_COMPLETION * _PRIOR_WEIGHT) / (
            self._generations_done + _PRIOR_WEIGHT
        )
        unsettled = self._admitted - self._settled
        return self._kept + kept * (unsettled + per_completion * self._generations_out)
