"""The sunburst: which pairs are shown, and that the picture says what the rows say."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest

from flows.reporting import palette
from flows.reporting.sunburst import sunburst_figure, top_pairs, verb_noun_charts
from tests.unit.reporting import frames

COMMAND = "evoloom store analyse night-1"


def expected_pairs(rows: pl.DataFrame, verbs: int, nouns: int) -> list[tuple[str, str, int]]:
    """The paper's choice, in plain Python."""
    counts: dict[str, Counter[str]] = {}
    for row in rows.iter_rows(named=True):
        if row["verb"] and row["noun"]:
            counts.setdefault(row["verb"], Counter())[row["noun"]] += row["count"]
    ranked = sorted(counts, key=lambda verb: (-counts[verb].total(), verb))[:verbs]
    return [
        (verb, noun, counts[verb][noun])
        for verb in ranked
        for noun in sorted(counts[verb], key=lambda noun: (-counts[verb][noun], noun))[:nouns]
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_top_verbs_and_their_top_nouns_are_shown(seed: int) -> None:
    rows = frames.drawn_pairs(seed)
    shown = top_pairs(rows)
    assert shown.select("verb", "noun", "count").rows() == expected_pairs(rows, 20, 4)
    assert shown["verb"].n_unique() == 20


def test_the_figure_holds_the_rows_numbers() -> None:
    shown = top_pairs(frames.drawn_pairs(1))
    (trace,) = sunburst_figure(shown, palette.verb_colours(shown["verb"])).data
    sectors = {
        key: (label, parent, value)
        for key, label, parent, value in zip(
            trace.ids, trace.labels, trace.parents, trace.values, strict=True
        )
    }
    assert len(sectors) == len(trace.ids)
    drawn = [
        (sectors[parent][0], label, value) for label, parent, value in sectors.values() if parent
    ]
    assert drawn == shown.select("verb", "noun", "count").rows()
    for key, (_, parent, value) in sectors.items():
        if not parent:
            assert value == sum(child[2] for child in sectors.values() if child[1] == key)


def test_labels_are_letters_not_tags() -> None:
    rows = frames.pairs([("<b>write</b>", "<script>", 3, "<img src=x onerror=alert(1)> & 翻译 🎉")])
    (trace,) = sunburst_figure(top_pairs(rows), {"<b>write</b>": "#77aadd"}).data
    assert trace.labels == ("&lt;b&gt;write&lt;/b&gt;", "&lt;script&gt;")
    assert trace.customdata[1] == "&lt;img src=x onerror=alert(1)&gt; &amp; 翻译 🎉"


def test_a_verb_has_one_colour_in_both_pictures() -> None:
    first = frames.side("one", pairs=frames.pairs([("write", "a", 9, ""), ("sort", "b", 5, "")]))
    second = frames.side("two", pairs=frames.pairs([("sort", "c", 9, ""), ("find", "d", 5, "")]))
    one, two = verb_noun_charts([first, second], COMMAND)
    colours = [
        dict(zip(trace.labels, trace.marker.colors, strict=True))
        for trace in (one.figure.data[0], two.figure.data[0])
    ]
    assert colours[0]["sort"] == colours[1]["sort"]
    assert len({colours[0]["write"], colours[0]["sort"], colours[1]["find"]}) == 3


def test_the_words_say_how_much_is_shown() -> None:
    (chart,) = verb_noun_charts([frames.side()], COMMAND)
    assert "30 of 60 distinct instructions (50.0%)" in chart.notes[0]
    assert "the 2 pairs shown occur 30 times (50.0% of the instructions)" in chart.notes[0]
    assert not any(COMMAND in note for note in chart.notes)


def test_a_part_that_is_not_parsed_yet_is_said() -> None:
    (chart,) = verb_noun_charts(
        [frames.side(kinds=frames.kinds([("imperative", None, 45)]))], COMMAND
    )
    assert any("45 of 60" in note and f"`{COMMAND}`" in note for note in chart.notes)


def test_without_parses_there_is_a_command_and_no_chart() -> None:
    nothing = frames.side(kinds=frames.kinds([]), pairs=frames.pairs([]))
    (chart,) = verb_noun_charts([nothing], COMMAND)
    assert chart.figure is None
    assert f"`{COMMAND}`" in chart.notes[0]
