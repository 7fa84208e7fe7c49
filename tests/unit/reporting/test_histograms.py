"""Histograms: the bars are the view's rows, and two runs of unlike size can be compared."""

from __future__ import annotations

import pytest

from flows.reporting import palette
from flows.reporting.histograms import (
    length_chart,
    length_figure,
    novelty_chart,
    novelty_figure,
)
from tests.unit.reporting import frames

COMMAND = "evoloom store analyse night-1"
SCORES = frames.novelty([("pool", 0.5, 7), ("seed", 0.25, 4), ("seed", 0.2, 3)])
LENGTHS = frames.lengths(
    [
        ("instruction", 1, 5, 4),
        ("instruction", 201, None, 1),
        ("input", 6, 10, 2),
        ("output", 11, 15, 9),
    ]
)


def test_novelty_bars_are_the_rows() -> None:
    seed, pool = novelty_figure([("night-1", SCORES)]).data
    assert list(zip(seed.x, seed.y, strict=True)) == [
        (pytest.approx(0.225), 3),
        (pytest.approx(0.275), 4),
    ]
    assert list(pool.y) == [7]
    assert [label for label, _, _ in seed.customdata] == ["0.20 to 0.25", "0.25 to 0.30"]


def test_the_threshold_is_drawn_in_both_panels() -> None:
    figure = novelty_figure([("night-1", SCORES)], threshold=0.7)
    assert [line.x0 for line in figure.layout.shapes] == [0.7, 0.7]
    assert "threshold 0.7" in [note.text for note in figure.layout.annotations]
    assert not novelty_figure([("night-1", SCORES)]).layout.shapes


def test_a_run_without_seeds_has_one_panel_and_says_so() -> None:
    side = frames.side(novelty=frames.novelty([("pool", 0.5, 7)]))
    chart = novelty_chart([side], COMMAND)
    assert len(chart.figure.data) == 1
    assert chart.notes == ("This run has no seeds to compare with.",)


def test_without_scores_there_is_a_command_and_no_chart() -> None:
    chart = novelty_chart([frames.side(novelty=frames.novelty([]), is_scored=False)], COMMAND)
    assert chart.figure is None
    assert chart.notes == (f"No novelty scores yet: `{COMMAND}` works them out.",)


def test_nothing_to_compare_is_not_missing_scores() -> None:
    chart = novelty_chart([frames.side(novelty=frames.novelty([]))], COMMAND)
    assert chart.figure is None
    assert chart.notes == ("This run has nothing that could be compared.",)


def test_one_scored_side_of_two_is_drawn_and_the_other_named() -> None:
    other = frames.side("night-2", novelty=frames.novelty([]), is_scored=False)
    chart = novelty_chart([frames.side(), other], COMMAND)
    assert {trace.name for trace in chart.figure.data} == {"night-1"}
    assert any("of night-2" in note and COMMAND in note for note in chart.notes)


def test_two_runs_are_shown_as_shares_in_their_own_colours() -> None:
    twice = frames.novelty([("seed", 0.2, 30), ("seed", 0.25, 40)])
    traces = novelty_figure([("one", SCORES), ("two", twice)]).data
    seed = {trace.name: trace for trace in traces[:2]}
    assert list(seed["one"].y) == [pytest.approx(300 / 7), pytest.approx(400 / 7)]
    assert seed["one"].y == seed["two"].y
    assert [count for _, count, _ in seed["two"].customdata] == [30, 40]
    assert (seed["one"].marker.color, seed["two"].marker.color) == palette.DATASETS
    assert [trace.showlegend for trace in traces] == [True, True, False, False]


def test_length_bars_are_the_rows() -> None:
    instruction, given, output = length_figure([("night-1", LENGTHS)]).data
    assert list(zip(instruction.x, instruction.y, strict=True)) == [(3, 4), (203, 1)]
    assert [label for label, _, _ in instruction.customdata] == ["1–5", "201+"]
    assert list(zip(given.x, given.y, strict=True)) == [(8, 2)]
    assert list(zip(output.x, output.y, strict=True)) == [(13, 9)]


def test_all_panels_have_one_scale_and_its_last_tick_has_no_end() -> None:
    layout = length_figure([("night-1", LENGTHS)]).layout
    axes = [layout.xaxis, layout.xaxis2, layout.xaxis3]
    assert {axis.range for axis in axes} == {(0, 210)}
    assert axes[0].ticktext[-1] == "> 200"
    short = length_figure([("night-1", LENGTHS.filter(LENGTHS["words_from"] < 200))]).layout
    assert short.xaxis.range == (0, 20)
    assert "> 200" not in short.xaxis.ticktext


def test_empty_inputs_are_no_inputs() -> None:
    chart = length_chart([frames.side()])
    given = chart.figure.data[1]
    assert list(given.y) == [59]
    assert ("input", "0", 30) not in chart.tables[0].rows
    assert ("input", "1–5", 59) in chart.tables[0].rows


def test_nothing_accepted_is_said() -> None:
    chart = length_chart([frames.side(lengths=frames.lengths([]))])
    assert chart.figure is None
    assert chart.notes == ("Nothing was accepted, so there is nothing to measure.",)
