"""Scores as Super-NaturalInstructions publishes them."""

from __future__ import annotations

import pytest

from pipeline.student.evaluation.metrics import category_metric, exact_match, normalise, rouge_l


def test_the_best_reference_counts() -> None:
    assert rouge_l("the cat sat", ["a dog ran", "the cat sat"]) == 1.0
    assert rouge_l("the cat sat", ["a dog ran"]) == 0.0


def test_words_are_stemmed_beyond_three_letters() -> None:
    """The Porter stemmer, unlike in the novelty filter; short tokens stay as they are."""
    assert rouge_l("running dogs", ["runs dog"]) == 1.0
    assert rouge_l("jumping quickly", ["jumped quickly"]) == 1.0
    assert rouge_l("is", ["i"]) == 0.0


def test_rouge_l_of_a_known_pair() -> None:
    # LCS of 'the quick fox' in 'the quick brown fox jumps': p = 1, r = 3/5.
    expected = 2 * 1 * 0.6 / 1.6
    assert rouge_l("the quick fox", ["the quick brown fox jumps"]) == pytest.approx(expected)


def test_an_empty_answer_scores_nothing() -> None:
    assert rouge_l("", ["anything"]) == 0.0
    assert exact_match("", ["anything"]) == 0.0


@pytest.mark.parametrize("answer", ["Yes", "yes.", " YES! ", '"yes"'])
def test_exact_match_passes_over_case_punctuation_and_blanks(answer: str) -> None:
    assert exact_match(answer, ["no", "Yes"]) == 1.0


def test_exact_match_takes_all_of_the_answer() -> None:
    assert exact_match("Yes, it is", ["Yes"]) == 0.0
    assert normalise("It's  a\tTest.") == "its a test"


@pytest.mark.parametrize(
    ("category", "metric"),
    [
        ("Textual Entailment", "exact_match"), ("word_analogy", "exact_match"),
        ("Coreference Resolution", "exact_match"), ("Title Generation", "rouge_l"),
        ("Data to Text", "rouge_l"), ("anything else", "rouge_l"),
    ],
)  # fmt: skip
def test_the_metric_of_a_category_is_the_published_one(category: str, metric: str) -> None:
    assert category_metric(category) == metric
