"""From texts to token numbers, for the tree: compiled for the default tokenizer, else in Python."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.novelty.state import IDS
from pipeline.novelty.tokenizers import Tokenizer, rouge_tokens
from pipeline.novelty.words import rehash_words, split_some

Numbered = tuple[NDArray[np.int32], NDArray[np.int64]]
"""Token numbers of texts one after another, and where each text's begin (one more at the end)."""


class Vocabulary(Protocol):
    """Numbers tokens, from the counter that the tree's elements share."""

    def number(self, texts: Sequence[str], counters: NDArray[np.int64]) -> Numbered:
        """Return token numbers of texts; new tokens get new ones."""

    def look_up(self, text: str, counters: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return token numbers of a text; unknown tokens get passing ones, nothing is changed."""


def vocabulary_for(tokenizer: Tokenizer) -> Vocabulary:
    """Return the fastest vocabulary for a tokenizer."""
    if tokenizer.split is rouge_tokens:
        return _RougeVocabulary()
    return _AnyVocabulary(tokenizer.split)


class _RougeVocabulary:
    def __init__(self) -> None:
        self._table = np.zeros(1 << 12, dtype=np.uint64)

    def number(self, texts: Sequence[str], counters: NDArray[np.int64]) -> Numbered:
        starts = np.zeros(len(texts) + 1, dtype=np.int64)
        if not texts:
            return np.zeros(0, dtype=np.int32), starts
        joined = "\0".join(texts)
        if joined.count("\0") != len(texts) - 1:
            joined = "\0".join(text.replace("\0", " ") for text in texts)
        data = _bytes(joined)
        tokens = np.empty(len(data) // 2 + 1, dtype=np.int32)
        begin = np.zeros(3, dtype=np.int64)
        while not split_some(data, self._table, counters, True, begin, tokens, starts):
            larger = np.zeros(2 * len(self._table), dtype=np.uint64)
            rehash_words(self._table, larger)
            self._table = larger
        return tokens[: starts[-1]], starts

    def look_up(self, text: str, counters: NDArray[np.int64]) -> NDArray[np.int32]:
        data = _bytes(text.replace("\0", " "))
        tokens = np.empty(len(data) // 2 + 1, dtype=np.int32)
        starts = np.zeros(2, dtype=np.int64)
        split_some(data, self._table, counters, False, np.zeros(3, np.int64), tokens, starts)
        return tokens[: starts[1]]


class _Numbers(dict[Any, int]):
    """Token numbers; a token looked up for the first time gets the next one."""

    next = 0

    def __missing__(self, token: Any) -> int:
        number = self[token] = self.next
        self.next = number + 1
        return number


class _AnyVocabulary:
    def __init__(self, split: Callable[[str], list[Any]]) -> None:
        self._split = split
        self._numbers = _Numbers()

    def number(self, texts: Sequence[str], counters: NDArray[np.int64]) -> Numbered:
        numbers = self._numbers
        numbers.next = int(counters[IDS])
        lists = [self._split(text) for text in texts]
        tokens = np.fromiter(map(numbers.__getitem__, chain.from_iterable(lists)), dtype=np.int32)
        counters[IDS] = numbers.next
        starts = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, lists), dtype=np.int64, count=len(lists)), out=starts[1:])
        return tokens, starts

    def look_up(self, text: str, counters: NDArray[np.int64]) -> NDArray[np.int32]:
        known = self._numbers
        passing: dict[Any, int] = {}
        first = int(counters[IDS])
        return np.array(
            [
                number
                if (number := known.get(token)) is not None
                else passing.setdefault(token, first + len(passing))
                for token in self._split(text)
            ],
            dtype=np.int32,
        )


def _bytes(text: str) -> NDArray[np.uint8]:
    # A lone surrogate becomes a question mark, which separates as the surrogate does. Lower-casing
    # many texts at once differs from one by one in the Greek final sigma only, which separates too.
    return np.frombuffer(text.lower().encode("utf-8", "replace"), dtype=np.uint8)
