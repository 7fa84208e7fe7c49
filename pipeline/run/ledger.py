"""Caps on tokens and cost: reserve before sending, settle from what the answer says it used."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.records import Usage
from pipeline.sections import CapSettings, PriceSettings


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is set aside for one request in flight: tokens, and money at the configured prices."""

    tokens: int
    cost: float


def cost_of(usage: Usage, prices: PriceSettings) -> float:
    """Money for `usage`, in the currency of the prices."""
    cached = prices.prompt if prices.cached_prompt is None else prices.cached_prompt
    fresh_tokens = usage.prompt_tokens - usage.cached_tokens
    total = fresh_tokens * prices.prompt + usage.cached_tokens * cached
    return (total + usage.completion_tokens * prices.completion) / 1e6


class Ledger:
    """Spent and reserved tokens and money of a run, over all its resumes."""

    def __init__(self, caps: CapSettings, prices: PriceSettings) -> None:
        self._caps = caps
        self._prices = prices
        self._reserved_tokens = 0
        self._reserved_cost = 0.0
        self.usage = Usage()
        self.spent_tokens = 0
        self.spent_cost = 0.0

    def price(self, prompt_tokens: int, max_tokens: int) -> Reservation:
        """What a request would set aside, in full: no token of it cached, the longest answer."""
        return Reservation(
            prompt_tokens + max_tokens, cost_of(Usage(prompt_tokens, max_tokens), self._prices)
        )

    def fits(self, reservation: Reservation) -> bool:
        """Whether the caps leave room for it now."""
        tokens = self.spent_tokens + self._reserved_tokens + reservation.tokens
        cost = self.spent_cost + self._reserved_cost + reservation.cost
        return (self._caps.tokens is None or tokens <= self._caps.tokens) and (
            self._caps.cost is None or cost <= self._caps.cost
        )

    def reserve(self, reservation: Reservation) -> None:
        """Set it aside; `release` or `settle` ends that."""
        self._reserved_tokens += reservation.tokens
        self._reserved_cost += reservation.cost

    def release(self, reservation: Reservation) -> None:
        """Give it back unused."""
        self._reserved_tokens -= reservation.tokens
        self._reserved_cost -= reservation.cost

    def spend(self, usage: Usage | None, reservation: Reservation) -> None:
        """Book an answer; one without usage keeps its reservation as spent."""
        if usage is None:
            self.spent_tokens += reservation.tokens
            self.spent_cost += reservation.cost
            return
        self.usage += usage
        self.spent_tokens += usage.total
        self.spent_cost += cost_of(usage, self._prices)
