"""The rule in integers against the floats that rouge_score computes."""

from __future__ import annotations

from fractions import Fraction

import pytest
from rouge_score.scoring import fmeasure

from pipeline.errors import UsageError
from pipeline.novelty.comparing import least_of, need_of, tabulate
from pipeline.novelty.rouge import NEVER, AtThreshold, Rule, f_measure
from pipeline.novelty.tree import TreeEngine
from tests.unit.novelty.corpora import ROUGE

THRESHOLDS = [0.05, 0.3, 0.5, 0.6, 2 / 3, 0.7, 0.8, 0.9, 1.0]


def library(lcs: int, m: int, n: int) -> float:
    return float(fmeasure(lcs / n, lcs / m))


def smallest(rule: Rule, m: int, n: int) -> int:
    return next((i for i in range(min(m, n) + 1) if rule.fires(library(i, m, n))), NEVER)


def test_scores_are_those_of_the_library() -> None:
    for m in range(1, 40):
        for n in range(1, 40):
            for lcs in range(min(m, n) + 1):
                assert f_measure(lcs, m, n) == library(lcs, m, n)


def test_exact_ties_land_on_all_three_sides() -> None:
    sides = {"below": 0, "equal": 0, "above": 0}
    for m in range(1, 121):
        for n in range(1, 121):
            lcs = Fraction(7, 10) * (m + n) / 2
            if lcs.denominator == 1 and lcs <= min(m, n):
                score = f_measure(int(lcs), m, n)
                sides["below" if score < 0.7 else "above" if score > 0.7 else "equal"] += 1
    assert sides == {"below": 14, "equal": 162, "above": 166}


@pytest.mark.parametrize("at_threshold", ["reject", "admit"])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_needs_are_the_smallest_that_fire(threshold: float, at_threshold: AtThreshold) -> None:
    rule = Rule(threshold, at_threshold)
    limits = TreeEngine(rule, ROUGE)._limits
    tabulate(limits)
    lengths = [*range(1, 36), 64, 127, 128, 129, 130, 200]
    for m in lengths:
        partners = []
        for n in lengths:
            expected = smallest(rule, m, n)
            assert rule.need(m, n) == expected
            assert need_of(limits, m, n) == expected
            if expected != NEVER:
                partners.append(n)
        least, most = rule.span(m)
        assert all(least <= n <= most for n in partners)
        if partners and m < 36:
            assert least_of(limits, m) == partners[0]


def test_the_length_bound_holds() -> None:
    # By brute force: outside the span not even a text that is wholly contained fires.
    for threshold in THRESHOLDS:
        for at_threshold in ("reject", "admit"):
            rule = Rule(threshold, at_threshold)
            for m in range(1, 60):
                least, most = rule.span(m)
                for n in (*range(1, least), *range(most + 1, most + 40)):
                    assert not rule.fires(library(min(m, n), m, n))


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01, float("nan")])
def test_a_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="threshold"):
        Rule(threshold, "reject")
