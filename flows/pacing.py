"""When a run that is going on is ingested and published again.

Each time costs what the new rows take and what the copy of the whole store takes: the second grows
with the store, not with the run. So no fixed interval is right at every size. The next time comes
when it can be afforded: when all times so far, the next one and the last one at the run's end, each
as long as the latest took, make up no more than SHARE of the time that the run will then have taken.
"""

from __future__ import annotations

SHARE = 0.05
"""Of a run's time, what ingesting and publishing may take."""


class Pace:
    """Keeps the account of one run. All times are seconds."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._spent_s = 0.0
        self._latest_s = 0.0

    def add(self, took_s: float) -> None:
        """Note what an ingest and its publishing took."""
        self._spent_s += took_s
        self._latest_s = took_s

    def pause(self, elapsed_s: float) -> float:
        """How long to wait before the next, `elapsed_s` into the run; at least the interval."""
        expected_s = self._spent_s + 2 * self._latest_s
        return max(self._interval_s, expected_s / SHARE - elapsed_s)
