"""How many requests a teacher is given at once: all that is allowed, fewer while it is overloaded.

Additive increase, multiplicative decrease (Chiu and Jain, "Analysis of the increase and decrease
algorithms for congestion avoidance in computer networks", Computer Networks and ISDN Systems 17,
1989): of the linear rules the one by which users of a shared resource reach efficiency and fairness
without knowing of each other. At most one decrease a round trip, as TCP has it (Jacobson, "Congestion
avoidance and control", SIGCOMM 1988).

When what is sent depends on the clock in any case; what a run makes of it does not.
"""

from __future__ import annotations

import asyncio
from collections import deque

_DECREASE = 0.5
# A lone failure is noise. Of the last answers a tenth must have failed; with one in a hundred
# failing at random that is eight standard deviations away.
_CONGESTED_SHARE = 0.1
# Over how many answers that share is taken, at least; otherwise over one round trip.
_FEWEST_ANSWERS = 40
# From half to all of it in eight round trips, whatever all of it is.
_STEPS = 16
# Failures that do not say 'too much' may come from anything; fewer requests may not help at all.
_UNCLEAR_FLOOR = 0.25


class Congestion:
    """The limit on requests in flight, and who waits for it to allow one more."""

    def __init__(self, maximum: int, minimum: int = 1, *, adapt: bool = True) -> None:
        """
        Args:
            maximum, minimum: requests in flight at once, at most and at the worst.
            adapt: whether the limit moves at all.
        """
        self.maximum = maximum
        self._minimum = min(minimum, maximum)
        self._unclear_minimum = max(self._minimum, int(maximum * _UNCLEAR_FLOOR))
        self._adapt = adapt
        self._limit = float(maximum)
        self._failing = self._overloaded = 0.0
        self._in_flight = 0
        self._started = self._reduced_at = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_open = False

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return int(self._limit)

    async def turn(self) -> None:
        """Return when one more request may go out; first come, first served."""
        while self._in_flight >= self.limit and not self._is_open:
            place = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            await place

    def let_everybody_pass(self, is_open: bool = True) -> None:
        """While open nobody waits: what is sent is limited elsewhere, or nothing is."""
        self._is_open = is_open
        if is_open:
            self._wake(len(self._waiting))

    def sent(self) -> int:
        """A request goes out; returns the ticket to come back with."""
        self._in_flight += 1
        self._started += 1
        return self._started

    def answered(self) -> None:
        """It was answered."""
        self._limit = min(self.maximum, self._limit + max(1.0, self.maximum / _STEPS) / self._limit)
        self._note(failed=0.0, overload=0.0)
        self._left()

    def failed(self, ticket: int, *, overload: bool) -> None:
        """It failed in passing; `overload` where the failure says that it was too much at once."""
        # What was sent before the last decrease tells nothing of what it has brought.
        if ticket > self._reduced_at:
            self._note(failed=1.0, overload=float(overload))
            self._perhaps_reduce()
        self._left()

    def ended(self) -> None:
        """It came to an end, cancelled or refused, that says nothing about the teacher's load."""
        self._left()

    def _note(self, failed: float, overload: float) -> None:
        weight = 1.0 / max(_FEWEST_ANSWERS, self._limit)
        self._failing += (failed - self._failing) * weight
        self._overloaded += (overload - self._overloaded) * weight

    def _perhaps_reduce(self) -> None:
        if not self._adapt or self._failing < _CONGESTED_SHARE:
            return
        is_overload = self._overloaded >= self._failing / 2
        floor = self._minimum if is_overload else self._unclear_minimum
        self._limit = min(self._limit, max(float(floor), self._limit * _DECREASE))
        self._failing = self._overloaded = 0.0
        self._reduced_at = self._started

    def _left(self) -> None:
        self._in_flight -= 1
        self._wake(self.limit - self._in_flight)

    def _wake(self, places: int) -> None:
        while places > 0 and self._waiting:
            place = self._waiting.popleft()
            if not place.done():  # one that was cancelled waits no more
                place.set_result(None)
                places -= 1
