"""Difficulty of an evolution by round, as the teacher rated it."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from flows.reporting import palette
from flows.reporting.chart import Cell, Chart, Side, Table, plain


def difficulty_figure(sides: Sequence[tuple[str, pl.DataFrame]]) -> go.Figure:
    """Each round as one bar of 100%, from the easy below to the difficult above, with its mean.

    Args:
        sides: name and frame with round (None: the source), difficulty (1 to 10), count.
    """
    figure = make_subplots(
        rows=1, cols=len(sides), shared_yaxes=True, horizontal_spacing=0.05,
        subplot_titles=[plain(name) for name, _ in sides] if len(sides) > 1 else None,
    )  # fmt: skip
    for column, (_, frame) in enumerate(sides, start=1):
        rounds = round_means(frame)
        names = [name for name, _, _ in rounds]
        totals = {name: total for name, total, _ in rounds}
        named = frame.with_columns(name=_round_names(frame))
        for rating, colour in enumerate(palette.RATINGS, start=1):
            of_rating = named.filter(pl.col("difficulty") == rating)
            counts = dict(zip(of_rating["name"], of_rating["count"], strict=True))
            values = [counts.get(name, 0) for name in names]
            shares = [100 * value / totals[name] for name, value in zip(names, values, strict=True)]
            figure.add_trace(
                go.Bar(
                    name=f"{rating}",
                    x=names,
                    y=shares,
                    customdata=values,
                    text=[f"{rating}" for _ in shares],
                    textposition="inside",
                    insidetextanchor="middle",
                    textangle=0,
                    textfont={"color": palette.text_on(colour)},
                    marker={"color": colour, "line": {"color": palette.MUTED, "width": 0.5}},
                    showlegend=column == 1,
                    legendgroup=f"{rating}",
                    hovertemplate=f"rated {rating}: %{{customdata:,}} (%{{y:.1f}}%)<extra></extra>",
                ),
                1,
                column,
            )
        for name, _, mean in rounds:
            figure.add_annotation(
                x=name, y=100, text=f"mean {mean:.2f}", showarrow=False, yanchor="bottom", row=1,
                col=column,
            )  # fmt: skip
    figure.update_layout(
        **palette.layout(480, margin={"l": 70, "r": 90, "t": 50, "b": 50}), barmode="stack",
        bargap=0.35, uniformtext={"minsize": 11, "mode": "hide"},
    )  # fmt: skip
    figure.update_layout(
        legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top", "title": {"text": "rating"},
                "traceorder": "reversed"}
    )  # fmt: skip
    figure.update_yaxes(range=[0, 108], tickvals=[0, 25, 50, 75, 100], gridcolor=palette.GRID)
    figure.update_yaxes(title=palette.axis_title("% of the rated"), row=1, col=1)
    figure.update_xaxes(type="category")
    return figure


def difficulty_chart(sides: Sequence[Side]) -> Chart | None:
    """Difficulty by round, where one side is an evolution."""
    evolved = [side for side in sides if side.data.head.kind == "evol-instruct"]
    if not evolved:
        return None
    title = "Difficulty of accepted instructions by round, as the teacher rated it (1 to 10)"
    rated = [side for side in evolved if side.data.difficulty.height]
    notes = [
        f"{side.name} was not rated: `evoloom run evol-instruct --set evol_instruct.difficulty=true` "
        "has the teacher rate each instruction."
        for side in evolved
        if side not in rated
    ]
    if not rated:
        return Chart("difficulty", title, tuple(notes))
    notes.append(
        "WizardLM's means on 600 samples: 3.00 for the source (Alpaca), 5.48 after one round, 7.08 "
        "after four."
    )
    frames = [(side.name, side.data.difficulty) for side in rated]
    several = len(rated) > 1
    means = [
        (side_name, *of_round) for side_name, frame in frames for of_round in round_means(frame)
    ]
    rows: list[tuple[Cell, ...]] = [row if several else row[1:] for row in means]
    said = "; ".join(f"{name}: mean {mean:.2f} of {total:,}" for _, name, total, mean in means)
    columns = (*(["run"] if several else []), "round", "rated", "mean difficulty")
    return Chart(
        "difficulty", title, tuple(notes), difficulty_figure(frames), f"Stacked bars. {said}.",
        (Table("Difficulty by round", columns, rows), _rating_table(frames)),
    )  # fmt: skip


def round_means(frame: pl.DataFrame) -> list[tuple[str, int, float]]:
    """Name, count and mean rating of each round, the source first."""
    rounds = (
        frame.group_by("round")
        .agg(
            total=pl.col("count").sum(),
            mean=(pl.col("difficulty") * pl.col("count")).sum() / pl.col("count").sum(),
        )
        .sort("round", nulls_last=False)
    )
    return list(zip(_round_names(rounds), rounds["total"], rounds["mean"], strict=True))


def _round_names(frame: pl.DataFrame) -> pl.Series:
    """Rounds as people count them, from 1."""
    names = [
        "source" if value is None else f"round {value + 1}" for value in frame["round"].to_list()
    ]
    return pl.Series("name", names, dtype=pl.String)


def _rating_table(frames: Sequence[tuple[str, pl.DataFrame]]) -> Table:
    several = len(frames) > 1
    rows: list[tuple[Cell, ...]] = []
    for side_name, frame in frames:
        named = frame.with_columns(name=_round_names(frame)).sort("round", "difficulty")
        rows += [
            (*([side_name] if several else []), row["name"], row["difficulty"], row["count"])
            for row in named.iter_rows(named=True)
        ]
    columns = (*(["run"] if several else []), "round", "rating", "instructions")
    return Table("Instructions by round and rating", columns, rows)
