"""Both rules on real instructions labelled by hand; docs/DIVERSITY.md holds the figures."""

import re
from functools import cache

import pytest

from pipeline.diversity import VerbNoun, analyse
from tests.unit.diversity.labels import Label, read_labels, score


@pytest.fixture
def data(checkout):
    folder = checkout.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared")
    return folder


@cache
def scored(data, split, method):
    labels = read_labels(data, split)
    return score(labels, analyse([label.text for label in labels], method))


def test_mended_rule_beats_the_published_rule_on_rows_it_was_not_written_by(data):
    published, mended = (scored(data, "test", method) for method in ("published", "mended"))
    assert mended.pair_precision > published.pair_precision + 0.2
    assert mended.pair_recall > published.pair_recall + 0.3
    assert mended.verb_precision > published.verb_precision
    assert mended.verb_recall > published.verb_recall
    assert mended.question_precision > 0.9 and mended.question_recall > 0.9


def test_the_figures_in_the_docs_are_those_measured(data, checkout):
    text = (checkout / "docs" / "DIVERSITY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (tune|test) \| (\w+) \| (.+) \|$", text, re.MULTILINE)
    assert {row[:2] for row in rows} == {
        (split, method) for split in ("tune", "test") for method in ("published", "mended")
    }
    for split, method, cells in rows:
        written = re.findall(r"\d+/\d+", cells)
        measured = [count.split()[1] for count in scored(data, split, method).counts]
        assert written == measured, (split, method)


def test_score_counts_only_what_is_right():
    labels = [
        Label("a", "imperative", "sort", ("list", "number"), None),
        Label("b", "imperative", "explain", (), None),
        Label("c", "question", None, (), "what"),
        Label("d", "unparsed", None, (), None),
    ]
    records = [
        VerbNoun("imperative", "sort", "number"),
        VerbNoun("imperative", "explain", "reason"),
        VerbNoun("question", question_word="how"),
        VerbNoun("imperative", "walk"),
    ]
    scores = score(labels, records)
    assert (scores.pair_precision, scores.pair_recall) == (1 / 2, 1)
    assert (scores.verb_precision, scores.verb_recall) == (2 / 3, 1)
    assert (scores.question_precision, scores.question_recall, scores.question_word) == (1, 1, 0)
