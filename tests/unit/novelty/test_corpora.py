"""The implementations against the published filter on corpora made to be hard."""

from __future__ import annotations

import pytest

from pipeline.novelty.engine import highest
from pipeline.novelty.plain import PlainEngine
from pipeline.novelty.rouge import Rule
from pipeline.novelty.tree import TreeEngine
from tests.unit.novelty.corpora import (
    NEVER_SCAN,
    ROUGE,
    adversarial,
    disagreements,
    judged,
    trees,
)


@pytest.mark.parametrize("seed", range(24))
def test_all_implementations_decide_alike(seed: int) -> None:
    assert disagreements(seed) == []


@pytest.mark.verify_novelty
@pytest.mark.parametrize("first", range(1000, 1240, 40))
def test_all_implementations_decide_alike_on_240_corpora(first: int) -> None:
    assert [line for seed in range(first, first + 40) for line in disagreements(seed)] == []


@pytest.mark.parametrize("seed", range(12))
def test_nearest_finds_what_comparing_with_all_finds(seed: int) -> None:
    rule, texts = adversarial(seed, 400)
    texts += [" ".join(text.split() * 30) for text in texts[:10]]  # beyond the count in a word
    plain, tree = PlainEngine(rule, ROUGE), TreeEngine(rule, ROUGE)
    for engine in (plain, tree):
        engine.add(texts)
    hidden = {3, 5, 8}
    for text in [*texts[::23], texts[-1], "", "unknown words alone"]:
        for k in (1, 2, 7, len(texts)):
            expected = highest(tree.scores(text), k, hidden)
            assert tree.nearest([text], k, hidden) == [expected]
            assert len(expected) == min(k, len(texts) - 3)
    # The scores themselves are those of the published arithmetic.
    few = texts[:400:97]
    assert tree.nearest(few, 5, hidden) == plain.nearest(few, 5, hidden)


def test_documents_that_share_no_more_than_the_path_are_not_lost() -> None:
    # At 0.3 two texts of three tokens need one in common, so that they stay in the rest lists of
    # every split; texts of many tokens in between force the splits.
    rule = Rule(0.3, "reject")
    texts = [f"common a{i} b{i} c{i} d{i} e{i} f{i} g{i} h{i}" for i in range(40)]
    texts += ["common x y", "common p q", "z common k"]
    expected = judged(PlainEngine(rule, ROUGE), texts)
    for engine in trees(rule).values():
        assert judged(engine, texts) == expected


def test_arrays_grow_in_the_middle_of_a_text() -> None:
    # One batch of long texts over few words: every list is split, every array is outgrown.
    rule = Rule(0.95, "reject")
    texts = [" ".join(f"t{(i * j) % 61}" for j in range(1, 38)) for i in range(1, 500)]
    expected = judged(PlainEngine(rule, ROUGE), texts[:150])
    tree = TreeEngine(rule, ROUGE, split=2, patience=NEVER_SCAN)
    assert judged(tree, texts, batch=500)[:150] == expected
