"""Questions, difficulty and usage: bars and tables say what the rows say."""

from __future__ import annotations

import pytest

from flows.reporting.difficulty import difficulty_chart, difficulty_figure, round_means
from flows.reporting.questions import question_chart
from flows.reporting.usage import usage_charts
from tests.unit.reporting import frames

COMMAND = "evoloom store analyse night-1"
RATINGS = [(None, 2, 6), (None, 4, 2), (0, 5, 3), (0, 10, 1), (1, 7, 4)]
EVOLUTION = {"kind": "evol-instruct"}


def test_questions_are_the_rows_the_most_frequent_first() -> None:
    chart = question_chart([frames.side()], COMMAND)
    (trace,) = chart.figure.data
    assert list(zip(trace.y, trace.x, trace.text, strict=True)) == [
        ("what", 12, "12 (20.0%)"),
        ("yes/no", 8, "8 (13.3%)"),
    ]
    assert chart.tables[0].rows == [("what", 12), ("yes/no", 8)]
    assert chart.notes == (
        "40 ask for something to be done (66.7%), 20 are questions (33.3%), 0 could not be told "
        "(0.0%).",
    )


def test_two_runs_have_the_same_words_in_the_same_order() -> None:
    other = frames.side(
        "night-2", kinds=frames.kinds([("question", "how", 30), ("unparsed", None, 70)])
    )
    chart = question_chart([frames.side(), other], COMMAND)
    one, two = chart.figure.data
    assert one.y == two.y == ("how", "what", "yes/no")
    assert list(one.x) == [0, pytest.approx(20), pytest.approx(100 * 8 / 60)]
    assert list(two.x) == [pytest.approx(30), 0, 0]
    assert chart.tables[0].rows == [("how", 0, 30), ("what", 12, 0), ("yes/no", 8, 0)]


def test_without_parses_there_is_a_command_and_no_chart() -> None:
    chart = question_chart([frames.side(kinds=frames.kinds([]))], COMMAND)
    assert chart.figure is None
    assert f"`{COMMAND}`" in chart.notes[0]


def test_without_questions_there_is_no_chart() -> None:
    chart = question_chart([frames.side(kinds=frames.kinds([("imperative", None, 9)]))], COMMAND)
    assert chart.figure is None
    assert chart.notes[0].startswith("9 ask for something")


def test_means_of_rounds_are_weighted_and_the_source_is_first() -> None:
    assert round_means(frames.difficulty(RATINGS[::-1])) == [
        ("source", 8, pytest.approx(2.5)),
        ("round 1", 4, pytest.approx(6.25)),
        ("round 2", 4, pytest.approx(7.0)),
    ]


def test_each_round_is_a_bar_of_a_hundred_per_cent() -> None:
    figure = difficulty_figure([("night-1", frames.difficulty(RATINGS))])
    assert [trace.name for trace in figure.data] == [str(rating) for rating in range(1, 11)]
    for number, name in enumerate(["source", "round 1", "round 2"]):
        assert {trace.x[number] for trace in figure.data} == {name}
        assert sum(trace.y[number] for trace in figure.data) == pytest.approx(100)
    counts = {trace.name: list(trace.customdata) for trace in figure.data}
    assert (counts["2"], counts["10"], counts["7"]) == ([6, 0, 0], [0, 1, 0], [0, 0, 4])
    assert "mean 6.25" in [note.text for note in figure.layout.annotations]


def test_an_evolution_that_was_not_rated_says_how_to() -> None:
    chart = difficulty_chart([frames.side(head=EVOLUTION)])
    assert chart is not None
    assert chart.figure is None
    assert "evol_instruct.difficulty=true" in chart.notes[0]


def test_difficulty_is_no_part_of_other_runs() -> None:
    assert difficulty_chart([frames.side()]) is None


def test_difficulty_is_told_in_tables() -> None:
    chart = difficulty_chart([frames.side(head=EVOLUTION, difficulty=frames.difficulty(RATINGS))])
    assert chart is not None
    means, ratings = chart.tables
    assert means.rows == [("source", 8, 2.5), ("round 1", 4, 6.25), ("round 2", 4, 7.0)]
    assert len(ratings.rows) == len(RATINGS)
    assert ("round 1", 10, 1) in ratings.rows


def test_usage_divides_the_prompt_into_cached_and_not() -> None:
    (chart,) = usage_charts([frames.side()])
    drawn = {trace.name: list(trace.x) for trace in chart.figure.data}
    assert drawn == {
        "prompt, not cached": [700, 700],
        "prompt, cached": [300, 0],
        "completion": [500, 70],
    }
    assert chart.figure.data[0].y == ("generate", "classify")
    assert "2,270 tokens in all" in chart.summary
    assert "No prices are set" in chart.notes[0]


def test_a_known_cost_is_in_the_table() -> None:
    priced = frames.usage([("generate", 60, 1000, 300, 500, 1.25)])
    (chart,) = usage_charts([frames.side(usage=priced)])
    assert chart.notes == ()
    assert chart.tables[0].rows[0][chart.tables[0].columns.index("cost")] == 1.25


def test_an_import_asked_nobody() -> None:
    assert usage_charts([frames.side(usage=frames.usage([]))]) == []
