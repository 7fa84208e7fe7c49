"""Distributions in bins: novelty, and lengths in words."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import polars as pl
from plotly.subplots import make_subplots

from flows.reporting import palette
from flows.reporting.chart import Chart, Side, Table

REFERENCES = {
    "seed": "Best ROUGE-L to a seed task",
    "pool": "Best ROUGE-L to another instruction of the same run",
}
PARTS = {"instruction": "Instruction", "input": "Input, where there is one", "output": "Output"}
_PANEL = 230
_LONGEST = 200  # words; what is longer has one bin without an end


def novelty_figure(
    sides: Sequence[tuple[str, pl.DataFrame]], threshold: float | None = None
) -> go.Figure:
    """A panel for each reference that there are scores to, a colour for each side.

    Args:
        sides: name and frame with against (seed, pool), score_from, score_to, count.
        threshold: the score at which the run rejected, drawn as a line.
    """
    panels = {
        key: title for key, title in REFERENCES.items()
        if any((frame["against"] == key).any() for _, frame in sides)
    }  # fmt: skip
    figure = _panels(list(panels.values()), shared=True)
    for row, key in enumerate(panels, start=1):
        for number, (name, frame) in enumerate(sides):
            bins = frame.filter(pl.col("against") == key).sort("score_from")
            middle = ((bins["score_from"] + bins["score_to"]) / 2).to_list()
            ranges = _score_ranges(bins)
            figure.add_trace(
                _bars(name, number, len(sides), middle, 0.05, bins, ranges, row == 1), row, 1
            )
        figure.update_xaxes(range=[0, 1], dtick=0.1, row=row, col=1, showticklabels=True)
        if threshold is not None:
            figure.add_vline(
                threshold, row=row, col=1, line={"color": palette.REJECTED, "dash": "dash", "width": 2},
                annotation={"text": f"threshold {threshold:g}", "font": {"color": palette.TEXT},
                            "xanchor": "left", "yanchor": "bottom"},
            )  # fmt: skip
    figure.update_xaxes(title=palette.axis_title("ROUGE-L F-measure"), row=len(panels), col=1)
    _title_heights(figure, "instructions", len(sides))
    return figure


def length_figure(sides: Sequence[tuple[str, pl.DataFrame]]) -> go.Figure:
    """A panel for each part, a bar for each bin.

    Args:
        sides: name and frame with part, words_from, words_to (None: and more), count.
    """
    panels = {
        key: title for key, title in PARTS.items()
        if any((frame["part"] == key).any() for _, frame in sides)
    }  # fmt: skip
    figure = _panels(list(panels.values()), shared=True)
    end = max(_reach(frame) for _, frame in sides)
    ticks = list(range(0, end, 10 if end <= 100 else 20))
    if end > _LONGEST:
        ticks = [*range(0, _LONGEST, 20), _LONGEST + 3]
    for row, key in enumerate(panels, start=1):
        for number, (name, frame) in enumerate(sides):
            bins = frame.filter(pl.col("part") == key).sort("words_from")
            names = [_words(start, stop) for start, stop in
                     zip(bins["words_from"], bins["words_to"], strict=True)]  # fmt: skip
            middle = (bins["words_from"] + 2).to_list()
            bars = _bars(name, number, len(sides), middle, 5, bins, names, row == 1)
            figure.add_trace(bars, row, 1)
        figure.update_xaxes(
            range=[0, end + 5], tickvals=ticks, ticktext=[_tick(tick) for tick in ticks],
            showticklabels=True, tickangle=0, row=row, col=1,
        )  # fmt: skip
    figure.update_xaxes(title=palette.axis_title("words"), row=len(panels), col=1)
    _title_heights(figure, "count", len(sides))
    return figure


def novelty_chart(sides: Sequence[Side], command: str) -> Chart:
    """How near each instruction is to the nearest seed and to the nearest other of its run."""
    title = "How new the instructions are: best ROUGE-L to a seed and to the rest of the pool"
    scored = [side for side in sides if side.data.novelty.height]
    notes = [
        f"No novelty scores{'' if len(sides) == 1 else f' of {side.name}'} yet: `{command}` works "
        "them out."
        for side in sides
        if not side.data.is_scored
    ]  # fmt: skip
    notes += [
        f"{'This run' if len(sides) == 1 else side.name} has nothing that could be compared."
        for side in sides
        if side.data.is_scored and not side.data.novelty.height
    ]
    if not scored:
        return Chart("novelty", title, tuple(notes))
    notes += [
        f"{'This run' if len(sides) == 1 else side.name} has no seeds to compare with."
        for side in scored
        if not (side.data.novelty["against"] == "seed").any()
    ]
    frames = [(side.name, side.data.novelty) for side in scored]
    summary = "; ".join(_novelty_summary(side) for side in scored)
    rows = [
        (*([name] if len(scored) > 1 else []), REFERENCES[row["against"]],
         f"{row['score_from']:.2f} to {row['score_to']:.2f}", row["count"])
        for name, frame in frames
        for row in frame.sort(["against", "score_from"], descending=[True, False]).iter_rows(named=True)
    ]  # fmt: skip
    columns = (*(["run"] if len(scored) > 1 else []), "compared with", "score", "instructions")
    return Chart(
        "novelty", title, tuple(notes), novelty_figure(frames, scored[0].data.head.threshold),
        f"Histograms in bins of 0.05. {summary}", (Table("Instructions by score", columns, rows),),
    )  # fmt: skip


def length_chart(sides: Sequence[Side]) -> Chart:
    """How long instructions, inputs and outputs are."""
    # Input of no words is no input.
    frames = [
        (
            side.name,
            side.data.lengths.filter((pl.col("part") != "input") | (pl.col("words_from") > 0)),
        )
        for side in sides
    ]
    title = "How long instructions, inputs and outputs are, in words"
    if not any(frame.height for _, frame in frames):
        return Chart("lengths", title, ("Nothing was accepted, so there is nothing to measure.",))
    several = len(sides) > 1
    rows = [
        (*([name] if several else []), row["part"], _words(row["words_from"], row["words_to"]),
         row["count"])
        for name, frame in frames
        for part in PARTS
        for row in frame.filter(pl.col("part") == part).sort("words_from").iter_rows(named=True)
    ]  # fmt: skip
    summary = " ".join(
        f"{name}: most {part}s have {_words(*_commonest(frame, part))} words."
        for name, frame in frames
        for part in PARTS
        if (frame["part"] == part).any()
    )
    columns = (*(["run"] if several else []), "part", "words", "count")
    return Chart(
        "lengths", title, ("Instructions count once for each distinct text, inputs and outputs once "
                           "for each instance; empty inputs are left out.",),
        length_figure(frames), summary, (Table("Counts by length", columns, rows),),
    )  # fmt: skip


def _panels(titles: Sequence[str], *, shared: bool) -> go.Figure:
    rows = len(titles)
    height = 70 + rows * (_PANEL + 40)
    figure = make_subplots(
        rows=rows, cols=1, subplot_titles=list(titles), shared_xaxes=shared,
        vertical_spacing=0 if rows == 1 else 85 / height,
    )  # fmt: skip
    figure.update_layout(
        **palette.layout(height, margin={"l": 80, "r": 20, "t": 70, "b": 50}), bargap=0.08,
        barmode="group",
    )  # fmt: skip
    figure.update_layout(legend={"y": 1.0 + 36 / height})
    figure.update_annotations(font={"size": 15, "color": palette.TEXT}, x=0, xanchor="left")
    figure.update_yaxes(gridcolor=palette.GRID, rangemode="tozero", zeroline=False)
    return figure


def _title_heights(figure: go.Figure, counted: str, sides: int) -> None:
    figure.update_yaxes(title=palette.axis_title(counted if sides == 1 else "%"))
    figure.update_yaxes(tickformat=",d" if sides == 1 else None)


def _bars(
    name: str, number: int, sides: int, x: Sequence[float], width: float, bins: pl.DataFrame,
    ranges: Sequence[str], in_legend: bool,
) -> go.Bar:  # fmt: skip
    """Counts of one side; per cent of it where two sides of unlike size are compared."""
    counts = bins["count"].to_list()
    total = sum(counts) or 1
    return go.Bar(
        name=name,
        x=list(x),
        width=0.94 * width / sides,
        y=counts if sides == 1 else [100 * count / total for count in counts],
        customdata=[[label, count, 100 * count / total]
                    for label, count in zip(ranges, counts, strict=True)],
        marker={"color": palette.DATASETS[number], "line": {"width": 0}},
        legendgroup=name,
        showlegend=sides > 1 and in_legend,
        hovertemplate="%{customdata[0]}: %{customdata[1]:,} (%{customdata[2]:.1f}%)<extra></extra>",
    )  # fmt: skip


def _score_ranges(bins: pl.DataFrame) -> list[str]:
    return [
        f"{start:.2f} to {end:.2f}"
        for start, end in zip(bins["score_from"], bins["score_to"], strict=True)
    ]


def _reach(frame: pl.DataFrame) -> int:
    """The longest there is, rounded up to its bin; what has no end counts as a bin of its own."""
    return max((start + 4 for start in frame["words_from"].to_list()), default=5)


def _tick(words: int) -> str:
    return f"{words}" if words <= _LONGEST else f"> {_LONGEST}"


def _words(start: int, end: int | None) -> str:
    """A bin as it is written: `0`, `6–10`, `201+`."""
    if end is None:
        return f"{start}+"
    return f"{start}" if start == end else f"{start}–{end}"


def _commonest(frame: pl.DataFrame, part: str) -> tuple[int, int | None]:
    row = frame.filter(pl.col("part") == part).sort("count", descending=True).row(0, named=True)
    return row["words_from"], row["words_to"]


def _novelty_summary(side: Side) -> str:
    said = []
    for key, title in REFERENCES.items():
        bins = side.data.novelty.filter(pl.col("against") == key)
        if bins.height:
            top = bins.sort("count", descending=True).row(0, named=True)
            said.append(f"{title}: most often {top['score_from']:.2f} to {top['score_to']:.2f}")
    return f"{side.name}: {', '.join(said)}"
