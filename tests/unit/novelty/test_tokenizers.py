from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from pipeline.errors import UsageError
from pipeline.novelty import multilingual_tokens, rouge_tokens
from pipeline.novelty.state import COUNTERS
from pipeline.novelty.tokenizers import _multilingual_pattern, resolve_tokenizer
from pipeline.novelty.vocabulary import vocabulary_for

TEXTS = st.text() | st.text(alphabet="abAB019 _-\0\n\u0130\u212aé天")


@given(TEXTS)
@example("\u0130stanbul \u212aelvin ΣΑΣ x\0y \ud800z")
def test_rouge_tokens_are_those_of_the_library(text: str) -> None:
    assert rouge_tokens(text) == tokenize(text, None)


@given(st.lists(TEXTS | st.text(alphabet="ab1", min_size=10, max_size=40), max_size=6))
@example(["a" * 11, "a" * 12, "a" * 13, "a" * 18, "a" * 19, "a" * 24, "a" * 12 + " " + "a" * 6])
def test_compiled_numbers_tell_tokens_apart_as_the_library_does(texts: list[str]) -> None:
    vocabulary = vocabulary_for(resolve_tokenizer("rouge"))
    counters = np.zeros(COUNTERS, dtype=np.int64)
    numbers, starts = vocabulary.number(texts, counters)
    assert np.diff(starts).tolist() == [len(rouge_tokens(text)) for text in texts]
    tokens = [token for text in texts for token in rouge_tokens(text)]
    pairs = set(zip(tokens, numbers.tolist(), strict=True))
    assert len(pairs) == len(set(tokens)) == len(set(numbers.tolist()))
    for i, text in enumerate(texts):
        again = vocabulary.look_up(text, counters).tolist()
        assert again == numbers[starts[i] : starts[i + 1]].tolist()


def test_a_full_table_of_words_grows_without_a_difference() -> None:
    vocabulary = vocabulary_for(resolve_tokenizer("rouge"))
    counters = np.zeros(COUNTERS, dtype=np.int64)
    texts = [f"token{i} anextraordinarilylongtoken{i} token{i // 2}" for i in range(5000)]
    numbers, _ = vocabulary.number(texts, counters)
    tokens = [token for text in texts for token in rouge_tokens(text)]
    assert len(set(zip(tokens, numbers.tolist(), strict=True))) == len(set(tokens))


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_multilingual_equals_the_default_on_ascii(text: str) -> None:
    assert multilingual_tokens(text) == tokenize(text, None)
    # The pattern itself too, not only the short cut for ASCII.
    assert _multilingual_pattern().findall(text.lower()) == tokenize(text, None)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("写一首关于3只猫的诗。", ["写", "一", "首", "关", "于", "3", "只", "猫", "的", "诗"]),
        ("コーヒー、ください！", ["コ", "ー", "ヒ", "ー", "く", "だ", "さ", "い"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("ＡＢＣ１２", ["abc12"]),
        ("Größe हिन्दी наука 한국어", ["größe", "हिन्दी", "наука", "한국어"]),
        ("❤️ ✨ _ ——", []),
        ("iPhone手机2台", ["iphone", "手", "机", "2", "台"]),
    ],
)
def test_multilingual_tokens(text: str, tokens: list[str]) -> None:
    assert multilingual_tokens(text) == tokens


def test_an_unknown_tokenizer_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'wordpiece'"):
        resolve_tokenizer("wordpiece")
