"""Instructions that are questions, by question word."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl

from flows.reporting import palette
from flows.reporting.chart import Cell, Chart, Side, Table, plain, share_of

_ROW = 30


def question_figure(sides: Sequence[tuple[str, pl.DataFrame, int]]) -> go.Figure:
    """Questions by question word, the most frequent on top.

    Args:
        sides: name, frame with question_word and count, and how many instructions there are.
    """
    words = _ordered_words([frame for _, frame, _ in sides])
    figure = go.Figure()
    for number, (name, frame, total) in enumerate(sides):
        counts = dict(zip(frame["question_word"], frame["count"], strict=True))
        values = [counts.get(word, 0) for word in words]
        figure.add_trace(
            go.Bar(
                name=name,
                orientation="h",
                y=[plain(word.replace("_", "/")) for word in words],
                x=values if len(sides) == 1 else [100 * value / (total or 1) for value in values],
                text=[f"{value:,} ({share_of(value, total)})" for value in values],
                textposition="outside",
                cliponaxis=False,
                marker={"color": palette.DATASETS[number]},
                hovertemplate="%{y}: %{text}<extra></extra>",
            )
        )
    height = 110 + len(words) * (_ROW if len(sides) == 1 else 2 * _ROW)
    figure.update_layout(
        **palette.layout(height, margin={"l": 90, "r": 120, "t": 30, "b": 50}), bargap=0.25
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(
        gridcolor=palette.GRID, rangemode="tozero",
        tickformat="," if len(sides) == 1 else None,
        title=palette.axis_title("instructions" if len(sides) == 1 else "% of the instructions"),
    )  # fmt: skip
    return figure


def question_chart(sides: Sequence[Side], command: str) -> Chart:
    """Instructions that are questions, by question word."""
    title = "Instructions that are questions, by question word"
    missing = tuple(
        f"No instruction{'' if len(sides) == 1 else f' of {side.name}'} has been parsed yet: "
        f"`{command}` finds the questions."
        for side in sides
        if not side.data.parsed
    )
    parsed = [side for side in sides if side.data.parsed]
    notes = [*missing]
    for side in parsed:
        kinds = dict(side.data.kinds.group_by("kind").agg(pl.col("count").sum()).iter_rows())
        said = ", ".join(
            f"{kinds.get(kind, 0):,} {text} ({share_of(kinds.get(kind, 0), side.data.parsed)})"
            for kind, text in (("imperative", "ask for something to be done"),
                               ("question", "are questions"),
                               ("unparsed", "could not be told"))
        )  # fmt: skip
        notes.append(f"{'' if len(sides) == 1 else f'{side.name}: '}{said}.")
    frames = [
        (side.name, side.data.kinds.filter(pl.col("kind") == "question"), side.data.parsed)
        for side in parsed
    ]
    if not any(frame.height for _, frame, _ in frames):
        return Chart("questions", title, tuple(notes))
    words = _ordered_words([frame for _, frame, _ in frames])
    rows: list[tuple[Cell, ...]] = [
        (word.replace("_", "/"), *(_count(frame, word) for _, frame, _ in frames)) for word in words
    ]
    columns = (
        "question word",
        *(name if len(frames) > 1 else "instructions" for name, _, _ in frames),
    )
    return Chart(
        "questions", title, tuple(notes), question_figure(frames),
        f"Bars of {len(words)} question words; the most frequent is {words[0].replace('_', '/')}.",
        (Table("Questions by question word", columns, rows),),
    )  # fmt: skip


def _ordered_words(frames: Sequence[pl.DataFrame]) -> list[str]:
    together = pl.concat([frame.select("question_word", "count") for frame in frames])
    ordered = together.group_by("question_word").agg(pl.col("count").sum())
    words = ordered.sort(["count", "question_word"], descending=[True, False])["question_word"]
    return [str(word) for word in words]


def _count(frame: pl.DataFrame, word: str) -> int:
    return int(frame.filter(pl.col("question_word") == word)["count"].sum())
