"""What a run used and cost, stage by stage, from its run directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.asking import model_of
from pipeline.config import Settings
from pipeline.records import Usage
from pipeline.run.ledger import cost_of
from pipeline.sections import PriceSettings
from store.queries import RunDetail


@dataclass(frozen=True, slots=True)
class StageCost:
    """One stage, or a whole run. Money is in the currency of the run's prices, None where none are
    set; `per_accepted` is that for each accepted instruction, None also where there is none."""

    stage: str
    model: str
    requests: int
    usage: Usage
    cost: float | None
    per_accepted: float | None

    @property
    def cached_share(self) -> float | None:
        """Cached tokens over prompt tokens: the rate of hits of the endpoint's prefix cache, 0 also
        where it does not report them."""
        return (
            self.usage.cached_tokens / self.usage.prompt_tokens
            if self.usage.prompt_tokens
            else None
        )

    def to_json(self) -> dict[str, Any]:
        """What is worked out beyond the counts of tokens."""
        share = self.cached_share
        return {
            "model": self.model,
            "cached_share": None if share is None else round(share, 4),
            "cost": None if self.cost is None else round(self.cost, 6),
            "cost_per_accepted": None if self.per_accepted is None else round(self.per_accepted, 6),
        }


def stage_costs(detail: RunDetail) -> list[StageCost]:
    """Each stage, in the order in which they first answered."""
    prices = Settings(**detail.manifest.raw["config"]).prices
    accepted = detail.summary.accepted
    found = []
    for row in detail.usage:
        model = model_of(detail.manifest.raw, row.stage)
        cost = cost_of(row.usage, prices.of(model)) if is_priced(prices, model) else None
        each = cost / accepted if cost is not None and accepted else None
        found.append(StageCost(row.stage, model, row.requests, row.usage, cost, each))
    return found


def whole_cost(detail: RunDetail) -> StageCost:
    """The run as a whole."""
    stages = stage_costs(detail)
    costs = [stage.cost for stage in stages if stage.cost is not None]
    accepted = detail.summary.accepted
    cost = sum(costs) if costs else None
    return StageCost(
        "all",
        ", ".join(dict.fromkeys(stage.model for stage in stages)),
        sum(stage.requests for stage in stages),
        sum((stage.usage for stage in stages), Usage()),
        cost,
        cost / accepted if cost is not None and accepted else None,
    )


def is_priced(prices: PriceSettings, model: str) -> bool:
    """Whether anything is known of what a model costs."""
    return model in prices.models or any((prices.prompt, prices.completion, prices.cached_prompt))


def share_text(share: float | None) -> str:
    """`12.3%`."""
    return "-" if share is None else f"{share:.1%}"


def money_text(cost: float | None) -> str:
    """`1.2345`."""
    return "-" if cost is None else f"{cost:,.4f}"
