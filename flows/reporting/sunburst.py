"""What the instructions ask for: verbs and their direct objects as a sunburst.

Source: Wang et al. 2023, "Self-Instruct", figure 3: the 20 most frequent root verbs and, for each,
its 4 most frequent direct-object nouns. The paper leaves out pairs that occur 30 times or fewer;
here, where a run may be small, none is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import polars as pl

from flows.reporting import palette
from flows.reporting.chart import Chart, Side, Table, plain, share_of, shorten

VERBS = 20
NOUNS = 4
_EXAMPLE_LENGTH = 240


def top_pairs(pairs: pl.DataFrame, verbs: int = VERBS, nouns: int = NOUNS) -> pl.DataFrame:
    """The most frequent verbs, each with its most frequent nouns; ties go by the alphabet.

    Args:
        pairs: verb, noun, count, ... of each pair; a verb's frequency is the sum of its pairs.

    Returns:
        The rows shown, with `verb_count`, ordered as they are drawn.
    """
    complete = pairs.drop_nulls(["verb", "noun"])
    ranked = complete.with_columns(verb_count=pl.col("count").sum().over("verb"))
    order = ranked.select("verb", "verb_count").unique().sort(
        ["verb_count", "verb"], descending=[True, False]
    ).head(verbs)  # fmt: skip
    return (
        ranked.filter(pl.col("verb").is_in(order["verb"].implode()))
        .sort(["verb_count", "verb", "count", "noun"], descending=[True, False, True, False])
        .group_by("verb", maintain_order=True)
        .head(nouns)
    )


def sunburst_figure(shown: pl.DataFrame, colours: Mapping[str, str]) -> go.Figure:
    """Verbs inside, their nouns outside; a verb is as wide as its nouns together.

    Args:
        shown: what `top_pairs` gives.
        colours: a colour for each verb.
    """
    ids: list[str] = []
    labels: list[str] = []
    parents: list[str] = []
    values: list[int] = []
    sectors: list[str] = []
    notes: list[str] = []
    by_verb = shown.partition_by("verb", maintain_order=True)
    for place, rows in enumerate(by_verb):
        verb, colour = str(rows["verb"][0]), colours[str(rows["verb"][0])]
        ids.append(f"{place}")
        labels.append(plain(verb.replace("_", " ")))
        parents.append("")
        values.append(int(rows["count"].sum()))
        sectors.append(colour)
        notes.append(f"{int(rows['verb_count'][0]):,} with any noun")
        for number, row in enumerate(rows.iter_rows(named=True)):
            ids.append(f"{place}/{number}")
            labels.append(plain(str(row["noun"])))
            parents.append(f"{place}")
            values.append(int(row["count"]))
            sectors.append(palette.mix(colour, "#ffffff", palette.NOUN_TINT))
            notes.append(_wrapped(str(row["example"] or "")))
    figure = go.Figure(
        go.Sunburst(
            ids=ids,
            labels=labels,
            parents=parents,
            values=values,
            branchvalues="total",
            sort=False,
            rotation=90,
            marker={"colors": sectors, "line": {"color": palette.PAPER, "width": 1.5}},
            customdata=notes,
            insidetextorientation="radial",
            hovertemplate="<b>%{label}</b>: %{value:,}<br>%{customdata}<extra></extra>",
            textfont={"color": palette.TEXT},
        )
    )
    figure.update_layout(
        **palette.layout(1020, margin={"l": 10, "r": 10, "t": 10, "b": 10}),
        uniformtext={"minsize": 10, "mode": "hide"},
    )
    return figure


def verb_noun_charts(sides: Sequence[Side], command: str) -> list[Chart]:
    """A sunburst for each side, in the same colours.

    Args:
        command: what brings the pairs up to date.
    """
    shown = [top_pairs(side.data.pairs) for side in sides]
    colours = palette.verb_colours(verb for rows in shown for verb in rows["verb"].to_list())
    return [
        _chart(number, sides, rows, colours, command)
        for number, rows in enumerate(shown)
    ]  # fmt: skip


def _chart(
    number: int,
    sides: Sequence[Side],
    shown: pl.DataFrame,
    colours: Mapping[str, str],
    command: str,
) -> Chart:
    side = sides[number]
    whose = "" if len(sides) == 1 else f" of {side.name}"
    name = "verb-nouns" if number == 0 else "verb-nouns-versus"
    total, parsed = side.data.statistics.instructions, side.data.parsed
    title = f"What the instructions{whose} ask for: the {VERBS} most frequent verbs and their " \
        f"{NOUNS} most frequent objects"  # fmt: skip
    if not parsed:
        missing = f"No instruction has been parsed yet: `{command}` finds verbs and objects."
        return Chart(name, title, (missing,))
    with_pair = side.data.with_pair
    in_picture = int(shown["count"].sum())
    notes = [
        f"{with_pair:,} of {total:,} distinct instructions ({share_of(with_pair, total)}) have a verb "
        f"with a noun as its object; the {shown.height} pairs shown occur {in_picture:,} times "
        f"({share_of(in_picture, total)} of the instructions). In the paper: 26,559 of 52,445, "
        "and 14% shown.",
    ]
    if parsed < total:
        notes.append(
            f"Only {parsed:,} of {total:,} are parsed so far: `{command}` parses the rest."
        )
    if not shown.height:
        notes.append("None has both a verb and a noun, so there is nothing to draw.")
        return Chart(name, title, tuple(notes))
    top = ", ".join(
        f"{row['verb'].replace('_', ' ')} {row['noun']} ({row['count']:,})"
        for row in shown.sort("count", descending=True).head(3).iter_rows(named=True)
    )
    notes.append("Labels that do not fit their sector are left out; the table below has them all.")
    table = Table(
        "Verbs and nouns shown, with the first instruction that has the pair",
        ("verb", "noun", "instructions", "all of the verb", "example"),
        [
            (row["verb"].replace("_", " "), row["noun"], row["count"], row["verb_count"],
             shorten(row["example"] or "", _EXAMPLE_LENGTH))
            for row in shown.iter_rows(named=True)
        ],
    )  # fmt: skip
    return Chart(
        name, title, tuple(notes), sunburst_figure(shown, colours),
        f"Sunburst of {shown['verb'].n_unique()} verbs and their nouns; most frequent: {top}.", (table,),
    )  # fmt: skip


def _wrapped(text: str, width: int = 70, lines: int = 3) -> str:
    """An example of at most three lines for the label under the pointer."""
    words = shorten(text, width * lines)
    pieces = [words[start : start + width] for start in range(0, len(words), width)]
    return "<br>".join(plain(piece) for piece in pieces)
