"""The funnel as a Sankey diagram: a panel for requests, one for instructions, one for instances."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go

from flows.reporting import palette
from flows.reporting.chart import Cell, Chart, Side, Table, plain, share_of
from flows.reporting.streams import Panel, find_panels

_COLOURS = {
    "accepted": palette.ACCEPTED,
    "used": palette.ACCEPTED,
    "admitted": palette.ACCEPTED,
    "rejected": palette.REJECTED,
    "discarded": palette.REJECTED,
    "without_instances": palette.REJECTED,
    "surplus": palette.SURPLUS,
}
_NODE_PAD = 22
_TITLE = 46
_BETWEEN = 24
_LINK_TINT = 0.6


def sankey_figure(panels: Sequence[Panel]) -> go.Figure:
    """One panel below the other, as high as its nodes need."""
    heights = [max(110, 34 * panel.leaves + 40) for panel in panels]
    total = sum(heights) + len(panels) * _TITLE + (len(panels) - 1) * _BETWEEN
    figure = go.Figure()
    top = float(total)
    for panel, height in zip(panels, heights, strict=True):
        figure.add_annotation(
            text=f"<b>{panel.title}</b>: {panel.total:,}", x=0, y=top / total, xref="paper",
            yref="paper", xanchor="left", yanchor="top", showarrow=False, font={"size": 15},
        )  # fmt: skip
        top -= _TITLE
        figure.add_trace(_trace(panel, (top - height) / total, top / total))
        top -= height + _BETWEEN
    figure.update_layout(
        **palette.layout(total + 40, margin={"l": 10, "r": 10, "t": 20, "b": 20})
    )  # fmt: skip
    return figure


def funnel_charts(sides: Sequence[Side]) -> list[Chart]:
    """The funnel of each side."""
    return [_chart(number, sides) for number in range(len(sides))]


def _chart(number: int, sides: Sequence[Side]) -> Chart:
    side = sides[number]
    name = "funnel" if number == 0 else "funnel-versus"
    whose = "" if len(sides) == 1 else f" of {side.name}"
    title = f"The funnel{whose}: what came in, what became of it, and why"
    funnel = side.data.funnel
    panels = find_panels(funnel)
    if not panels:
        return Chart(name, title, ("Nothing has been counted of this run yet.",))
    rows: list[tuple[Cell, ...]] = [
        (
            row["subject"],
            row["stage"],
            row["outcome"].replace("_", " "),
            row["reason"],
            row["count"],
        )
        for row in funnel.sort("step", maintain_order=True).iter_rows(named=True)
    ]
    summary = "Sankey diagram. " + " ".join(_summary(panel) for panel in panels)
    return Chart(
        name, title, (), sankey_figure(panels), summary,
        (Table("Counts by stage, outcome and reason",
               ("subject", "stage", "outcome", "reason", "count"), rows),),
    )  # fmt: skip


def _summary(panel: Panel) -> str:
    ends: Counter[str] = Counter()
    for stream in panel.streams:
        if "\n" not in stream.target[1] and stream.outcome != "admitted":
            ends[stream.outcome.replace("_", " ")] += stream.count
    said = ", ".join(f"{name} {count:,}" for name, count in ends.items())
    return f"{panel.title}: {panel.total:,} in all; {said}."


def _trace(panel: Panel, bottom: float, top: float) -> go.Sankey:
    nodes: dict[tuple[int, str], str] = {}
    incoming: dict[tuple[int, str], int] = {}
    outgoing: dict[tuple[int, str], int] = {}
    for stream in panel.streams:
        nodes.setdefault(stream.source, palette.NEUTRAL)
        nodes[stream.target] = _colour(stream.outcome)
        incoming[stream.target] = incoming.get(stream.target, 0) + stream.count
        outgoing[stream.source] = outgoing.get(stream.source, 0) + stream.count
    numbers = {node: number for number, node in enumerate(nodes)}
    counts = {node: incoming.get(node) or outgoing[node] for node in nodes}
    return go.Sankey(
        domain={"x": [0, 1], "y": [max(0.0, bottom), top]},
        arrangement="snap",
        node={
            "label": [_label(node[1], counts[node], panel.total) for node in nodes],
            "color": list(nodes.values()),
            "pad": _NODE_PAD,
            "align": "left",
            "thickness": 16,
            "line": {"width": 0},
            "hovertemplate": "%{label}<extra></extra>",
        },
        link={
            "source": [numbers[stream.source] for stream in panel.streams],
            "target": [numbers[stream.target] for stream in panel.streams],
            "value": [stream.count for stream in panel.streams],
            "color": [
                palette.mix(_colour(stream.outcome), "#ffffff", _LINK_TINT)
                for stream in panel.streams
            ],
            "hovertemplate": "%{source.label} → %{target.label}: %{value:,}<extra></extra>",
        },
        textfont={"color": palette.TEXT, "size": 13, "shadow": "none"},
    )


def _colour(outcome: str) -> str:
    return _COLOURS.get(outcome, palette.UNSETTLED)


def _label(key: str, count: int, total: int) -> str:
    name = plain(key.rpartition("\n")[2].replace("_", " "))
    return f"{name} {count:,} ({share_of(count, total)})"
