"""What `--dry-run` prints: requests, tokens and money of a run that was not started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

from flows.costs import is_priced
from pipeline.config import Settings
from pipeline.estimates import Estimate
from pipeline.run.ledger import cost_of


def print_estimate(
    kind: str, estimate: Estimate, models: Mapping[str, str], settings: Settings, *, as_json: bool
) -> None:
    """Print an estimate, as text or as JSON.

    Args:
        models: the model of each stage; empty where only the endpoint knows it.
    """
    costs = {
        stage.stage: cost_of(stage.usage, settings.prices.of(models[stage.stage]))
        for stage in estimate.stages
    }
    if as_json:
        typer.echo(json.dumps(_as_json(kind, estimate, models, costs), indent=2))
        return
    echo = typer.echo
    echo(f"{kind}, dry run: nothing is started, nobody is asked; rates are those of the section "
         "`estimate` of the settings")  # fmt: skip
    width = max(len("model"), *(len(_name(model)) for model in models.values()))
    echo(
        f"\n{'stage':<16}{'model':<{width}}{'requests':>12}{'prompt tokens':>16}"
        f"{'completion tokens':>20}{'cost':>14}"
    )
    for stage in estimate.stages:
        usage = stage.usage
        echo(
            f"{stage.stage:<16}{_name(models[stage.stage]):<{width}}{stage.requests:>12,.0f}"
            f"{usage.prompt_tokens:>16,}{usage.completion_tokens:>20,}{costs[stage.stage]:>14,.4f}"
        )
    requests = sum(stage.requests for stage in estimate.stages)
    usage = estimate.usage
    cost = sum(costs.values())
    echo(
        f"{'all':<16}{'':<{width}}{requests:>12,.0f}{usage.prompt_tokens:>16,}"
        f"{usage.completion_tokens:>20,}{cost:>14,.4f}"
    )
    apart = ", re-asks of unparsable judgements apart" if estimate.pool else ""
    echo(f"\nat most {estimate.most_requests:,} requests{apart}")
    if estimate.pool:
        echo("result pool by round (the source first): "
             + ", ".join(f"{size:,.0f}" for size in estimate.pool))  # fmt: skip
    _print_doubts(models, settings)
    caps = settings.caps
    if caps.tokens is not None and caps.tokens < usage.total:
        echo(f"caps.tokens = {caps.tokens:,} would interrupt it before its end")
    if caps.cost is not None and caps.cost < cost:
        echo(f"caps.cost = {caps.cost:g} would interrupt it before its end")


def _print_doubts(models: Mapping[str, str], settings: Settings) -> None:
    prices = settings.prices
    unpriced = [stage for stage, model in models.items() if not is_priced(prices, model)]
    if len(unpriced) == len(models):
        typer.echo("no prices are set (prices.prompt, prices.completion, per million tokens)")
    elif unpriced:
        typer.echo(f"no price is set for the models of {', '.join(unpriced)}: they count as free")
    unused = sorted(set(prices.models) - set(models.values()))
    if unused:
        typer.echo(
            f"no stage asks a model named {', '.join(unused)}: what prices.models says of it counts for "
            "nothing"
        )
    unnamed = [stage for stage, model in models.items() if not model]
    if unnamed and prices.models:
        typer.echo(
            f"the model of {', '.join(unnamed)} is not named in the settings (teacher.model, "
            "teacher.stages.STAGE.model): reckoned at the general prices"
        )


def _name(model: str) -> str:
    return model or "(not named)"


def _as_json(
    kind: str, estimate: Estimate, models: Mapping[str, str], costs: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "kind": kind,
        "stages": [
            {
                "stage": stage.stage,
                "model": models[stage.stage] or None,
                "requests": round(stage.requests, 2),
                "prompt_tokens": stage.usage.prompt_tokens,
                "completion_tokens": stage.usage.completion_tokens,
                "cost": round(costs[stage.stage], 6),
            }
            for stage in estimate.stages
        ],
        "requests": round(sum(stage.requests for stage in estimate.stages), 2),
        "most_requests": estimate.most_requests,
        "prompt_tokens": estimate.usage.prompt_tokens,
        "completion_tokens": estimate.usage.completion_tokens,
        "cost": round(sum(costs.values()), 6),
        "pool": [round(size, 2) for size in estimate.pool],
    }
