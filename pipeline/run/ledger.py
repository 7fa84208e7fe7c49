"""Caps on tokens and cost: reserve before sending, settle from what the answer says it used."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.records import Usage
from pipeline.sections import CapSettings, Prices, PriceSettings


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is set aside for one request in flight: tokens, and money at the model's prices."""

    tokens: int
    cost: float
    model: str | None = None


@dataclass(slots=True)
class StageSpending:
    """What one stage has used so far: requests with an outcome, tokens, money.

    Answers that came without a count of tokens are in `cost`, with what was reserved for them, and
    not in `usage`.
    """

    requests: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0


def cost_of(usage: Usage, prices: Prices) -> float:
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
        self.stages: dict[str, StageSpending] = {}
        """By stage, in the order in which they first had an outcome."""

    def price(self, prompt_tokens: int, max_tokens: int, model: str | None = None) -> Reservation:
        """What a request to a model would set aside, in full: no token of it cached, the longest
        answer. None: the general prices."""
        usage = Usage(prompt_tokens, max_tokens)
        return Reservation(usage.total, cost_of(usage, self._prices.of(model)), model)

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

    def spend(self, stage: str, usage: Usage | None, reservation: Reservation) -> None:
        """Book an answer at the price of its model; one without usage keeps its reservation as
        spent."""
        spending = self.stages.setdefault(stage, StageSpending())
        spending.requests += 1
        if usage is None:
            tokens, cost = reservation.tokens, reservation.cost
        else:
            tokens, cost = usage.total, cost_of(usage, self._prices.of(reservation.model))
            self.usage += usage
            spending.usage += usage
        self.spent_tokens += tokens
        self.spent_cost += cost
        spending.cost += cost

    def refused(self, stage: str) -> None:
        """Count a request that was refused: it costs nothing."""
        self.stages.setdefault(stage, StageSpending()).requests += 1
