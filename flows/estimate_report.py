"""What `--dry-run` prints: requests, tokens and money of a run that was not started."""

from __future__ import annotations

import json
from typing import Any

import typer

from pipeline.config import Settings
from pipeline.estimates import Estimate, StageEstimate
from pipeline.run.ledger import cost_of


def print_estimate(kind: str, estimate: Estimate, settings: Settings, *, as_json: bool) -> None:
    """Print an estimate, as text or as JSON."""
    if as_json:
        typer.echo(json.dumps(_as_json(kind, estimate, settings), indent=2))
        return
    echo = typer.echo
    echo(f"{kind}, dry run: nothing is started, nobody is asked; rates are those of the section "
         "`estimate` of the settings")  # fmt: skip
    echo(
        f"\n{'stage':<16}{'requests':>12}{'prompt tokens':>16}{'completion tokens':>20}{'cost':>14}"
    )
    for stage in estimate.stages:
        echo(_row(stage.stage, stage.requests, stage, settings))
    requests = sum(stage.requests for stage in estimate.stages)
    usage = estimate.usage
    echo(
        f"{'all':<16}{requests:>12,.0f}{usage.prompt_tokens:>16,}{usage.completion_tokens:>20,}"
        f"{estimate.cost(settings.prices):>14,.4f}"
    )
    apart = ", re-asks of unparsable judgements apart" if estimate.pool else ""
    echo(f"\nat most {estimate.most_requests:,} requests{apart}")
    if estimate.pool:
        echo("result pool by round (the source first): "
             + ", ".join(f"{size:,.0f}" for size in estimate.pool))  # fmt: skip
    if not (settings.prices.prompt or settings.prices.completion):
        echo("no prices are set (prices.prompt, prices.completion, per million tokens)")
    caps = settings.caps
    if caps.tokens is not None and caps.tokens < usage.total:
        echo(f"caps.tokens = {caps.tokens:,} would interrupt it before its end")
    if caps.cost is not None and caps.cost < estimate.cost(settings.prices):
        echo(f"caps.cost = {caps.cost:g} would interrupt it before its end")


def _row(name: str, requests: float, stage: StageEstimate, settings: Settings) -> str:
    usage = stage.usage
    return (
        f"{name:<16}{requests:>12,.0f}{usage.prompt_tokens:>16,}{usage.completion_tokens:>20,}"
        f"{cost_of(usage, settings.prices):>14,.4f}"
    )


def _as_json(kind: str, estimate: Estimate, settings: Settings) -> dict[str, Any]:
    return {
        "kind": kind,
        "stages": [
            {
                "stage": stage.stage,
                "requests": round(stage.requests, 2),
                "prompt_tokens": stage.usage.prompt_tokens,
                "completion_tokens": stage.usage.completion_tokens,
                "cost": round(cost_of(stage.usage, settings.prices), 6),
            }
            for stage in estimate.stages
        ],
        "requests": round(sum(stage.requests for stage in estimate.stages), 2),
        "most_requests": estimate.most_requests,
        "prompt_tokens": estimate.usage.prompt_tokens,
        "completion_tokens": estimate.usage.completion_tokens,
        "cost": round(estimate.cost(settings.prices), 6),
        "pool": [round(size, 2) for size in estimate.pool],
    }
