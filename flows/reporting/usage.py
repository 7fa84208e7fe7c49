"""What the teacher was asked: tokens, cost and latency by stage."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl

from flows.reporting import palette
from flows.reporting.chart import Chart, Side, Table, plain

_LABEL_CHARACTER = 8


def usage_figure(usage: pl.DataFrame) -> go.Figure:
    """Tokens of each stage: prompt, cached prompt, completion."""
    stages = usage["stage"].to_list()
    cached = usage["cached_tokens"].fill_null(0)
    parts = (
        ("prompt", "prompt, not cached", usage["prompt_tokens"].fill_null(0) - cached),
        ("cached", "prompt, cached", cached),
        ("completion", "completion", usage["completion_tokens"].fill_null(0)),
    )
    figure = go.Figure(
        [
            go.Bar(
                name=name, orientation="h", y=[plain(stage.replace("_", " ")) for stage in stages],
                x=values.to_list(), marker={"color": palette.TOKENS[key]},
                hovertemplate=f"%{{y}}, {name}: %{{x:,}}<extra></extra>",
            )
            for key, name, values in parts
        ]
    )  # fmt: skip
    left = 30 + _LABEL_CHARACTER * max(len(stage) for stage in stages)
    figure.update_layout(
        **palette.layout(130 + 44 * len(stages), margin={"l": left, "r": 20, "t": 50, "b": 50}),
        barmode="stack", bargap=0.3,
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(
        title=palette.axis_title("tokens"), gridcolor=palette.GRID, rangemode="tozero"
    )
    return figure


def usage_charts(sides: Sequence[Side]) -> list[Chart]:
    """What each side asked of its teacher; nothing for imports and dataset versions."""
    charts = []
    for number, side in enumerate(sides):
        usage = side.data.usage
        if not usage.height:
            continue
        whose = "" if len(sides) == 1 else f" of {side.name}"
        costs = usage["cost"].drop_nulls()
        notes = []
        if not len(costs):
            notes.append("No prices are set (settings `prices`), so no cost is known.")
        if without := int(usage["without_usage"].sum()):
            notes.append(f"{without:,} answers came without a count of tokens; they are in no sum.")
        total = sum(
            usage[name].fill_null(0).sum() for name in ("prompt_tokens", "completion_tokens")
        )
        charts.append(
            Chart(
                "usage" if number == 0 else "usage-versus",
                f"What the teacher was asked{whose}: tokens by stage", tuple(notes),
                usage_figure(usage),
                f"Stacked bars of {usage.height} stages, {total:,} tokens in all.",
                (_usage_table(usage),),
            )
        )  # fmt: skip
    return charts


def _usage_table(usage: pl.DataFrame) -> Table:
    columns = (
        "stage", "model", "requests", "answers", "refusals", "prompt tokens", "of them cached",
        "cached share", "completion tokens", "cost", "cost an accepted", "latency p50 (s)", "p90 (s)",
        "p99 (s)",
    )  # fmt: skip
    rows: list[tuple[str | int | float | None, ...]] = [
        (row["stage"], row["model"], row["requests"], row["answers"], row["refusals"],
         row["prompt_tokens"], row["cached_tokens"], row["cached_share"], row["completion_tokens"],
         row["cost"], row["cost_per_accepted"], row["latency_p50_s"], row["latency_p90_s"],
         row["latency_p99_s"])
        for row in usage.iter_rows(named=True)
    ]  # fmt: skip
    return Table("Requests, tokens, cost and latency by stage", columns, rows)
