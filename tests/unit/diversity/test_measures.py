"""Measures, against numbers worked out by hand, the definitions written out, and NLTK."""

from collections import Counter
from math import isclose, log2
from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.diversity import VerbNoun
from pipeline.diversity import measures as m
from pipeline.diversity.scripts import count_letters

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join), max_size=8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Draw a map, Ann!", ["draw", "a", "map", "ann"]),
        ("It's well-known.", ["it's", "well", "known"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("...", []),
    ],
)
def test_words(text, words):
    assert m.words_of(text) == words


class TestDistinct:
    def test_by_hand(self):
        texts = ["a b a b", "b a"]  # 6 words; bigrams ab, ba
        assert m.distinct_n(texts, 1) == 2 / 6
        assert m.distinct_n(texts, 2) == 2 / 6
        assert m.distinct_n(texts, 3) == 2 / 6  # aba, bab
        assert m.distinct_n(texts, 5) == 0

    def test_no_n_gram_spans_two_texts(self):
        assert m.distinct_n(["a", "b"], 2) == 0

    def test_nothing(self):
        assert m.distinct_n([], 1) == m.type_token_ratio(["", "!"]) == 0

    def test_n_below_1(self):
        with pytest.raises(ValueError, match="n is 0"):
            m.distinct_n(["a"], 0)

    @given(TEXTS)
    def test_type_token_ratio_is_distinct_1(self, texts):
        assert m.type_token_ratio(texts) == m.distinct_n(texts, 1)


class TestMovingAverage:
    @given(TEXTS, st.integers(1, 6))
    def test_as_defined(self, texts, window):
        words = m.words_of(" ".join(texts))
        runs = [words[i : i + window] for i in range(len(words) - window + 1)]
        if runs:
            wanted = sum(len(set(run)) / window for run in runs) / len(runs)
        else:
            wanted = len(set(words)) / len(words) if words else 0
        assert isclose(m.moving_average_ttr(texts, window), wanted)

    def test_amount_of_text_does_not_change_it(self):
        text = "one two three four five six seven eight nine ten"
        assert m.moving_average_ttr([text] * 50, 10) == m.moving_average_ttr([text], 10) == 1
        assert m.type_token_ratio([text] * 50) == 1 / 50

    def test_window_below_1(self):
        with pytest.raises(ValueError, match="window"):
            m.moving_average_ttr(["a"], 0)


class TestEntropy:
    @pytest.mark.parametrize(
        ("items", "bits", "evenness"),
        [
            ("", 0, 0),
            ("aaaa", 0, 0),
            ("ab", 1, 1),
            ("abcd", 2, 1),
            ("aaab", 0.25 * 2 + 0.75 * log2(4 / 3), 0.25 * 2 + 0.75 * log2(4 / 3)),
            ("aabc", 1.5, 1.5 / log2(3)),
        ],
    )
    def test_by_hand(self, items, bits, evenness):
        assert isclose(m.entropy(items), bits)
        assert isclose(m.normalised_entropy(items), evenness)

    @given(st.lists(st.integers(0, 5)))
    def test_bounds(self, items):
        assert 0 <= m.entropy(map(str, items)) <= log2(max(1, len(set(items)))) + 1e-9
        assert 0 <= m.normalised_entropy(map(str, items)) <= 1


class TestSelfBleu:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @settings(deadline=None)  # the first example imports NLTK
    @given(TEXTS, st.integers(1, 4))
    def test_is_nltks_bleu_of_each_against_the_rest(self, texts, n):
        from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

        tokens = [m.words_of(text) for text in texts]
        if len(tokens) < 2:
            assert m.self_bleu(texts, n) == 0
            return
        smoothing = SmoothingFunction().method1
        scores = [
            sentence_bleu(
                tokens[:i] + tokens[i + 1 :], tokens[i], [1 / n] * n, smoothing_function=smoothing
            )
            for i in range(len(tokens))
        ]
        assert isclose(m.self_bleu(texts, n), sum(scores) / len(scores), abs_tol=1e-9)

    def test_ends_of_the_scale(self):
        alike, apart = ["we draw a big map"] * 3, ["a b c d", "e f g h", "i j k l"]
        assert isclose(m.self_bleu(alike), 1)
        assert m.self_bleu(apart) == 0

    def test_sample_is_fixed_and_of_that_size(self):
        texts = [f"draw {i} maps of {i % 7} towns in {i % 5} colours" for i in range(50)]
        assert m.self_bleu(texts, sample=20) == m.self_bleu(texts, sample=20)
        assert m.self_bleu(texts, sample=20) != m.self_bleu(texts, sample=50)
        assert m.self_bleu(texts, sample=50) == m.self_bleu(texts, sample=1000)

    @pytest.mark.parametrize(("n", "sample"), [(0, 10), (4, 0)])
    def test_refuses(self, n, sample):
        with pytest.raises(ValueError):
            m.self_bleu(["a", "b"], n, sample)


class TestShares:
    def test_kinds(self):
        imperative, unparsed = VerbNoun("imperative", "draw"), VerbNoun("unparsed")
        found = m.kind_shares([imperative, imperative, imperative, unparsed])
        assert found == {"imperative": 0.75, "question": 0, "unparsed": 0.25}
        assert m.kind_shares([]) == {"imperative": 0, "question": 0, "unparsed": 0}

    def test_task_types(self):
        found = m.task_type_shares([True, False, False, None])
        assert found == {"classification": 0.25, "other": 0.5, "unknown": 0.25}

    def test_scripts(self):
        texts = ["Draw a map.", "画一张地图", "Нарисуй карту", "画 a map", "12 + 7", "ᚠᚢᚦ", "été"]
        found = m.script_shares(texts)
        counts = {"Latin": 3, "Cyrillic": 1, "Han": 1, "Other": 1, "none": 1}
        assert found == {name: count / 7 for name, count in counts.items()}
        assert list(found) == ["Latin", "Cyrillic", "Han", "Other", "none"]

    @given(st.lists(st.text(max_size=10), min_size=1, max_size=10))
    def test_scripts_together_are_all(self, texts):
        assert isclose(sum(m.script_shares(texts).values()), 1)

    # Newer versions of Unicode know letters that Python's does not.
    @given(st.text(st.characters(exclude_categories=["Cn", "Cs"]), max_size=50))
    def test_every_letter_counts_once(self, text):
        letters = Counter(category(character)[0] for character in text)["L"]
        assert count_letters(text).total() == letters
