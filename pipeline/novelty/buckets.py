"""The implementation without a compiler: 64-bit bitmaps by length in NumPy, then rapidfuzz.

Two token multisets of m and n tokens that share `overlap` tokens differ in m + n - 2·overlap. Their
parity bitmaps (each token flips one of 64 bits) differ in at most as many bits, so a pair whose
bitmaps differ in more than m + n - 2·need bits cannot have a common subsequence of `need` tokens.
What is left, a handful, is decided by rapidfuzz's bit-parallel LCS.
"""

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from pipeline.novelty.engine import NOVEL, Verdict, highest
from pipeline.novelty.rouge import NEVER, Rule, f_measure
from pipeline.novelty.tokenizers import Tokenizer, has_letters

# rapidfuzz compares strings fastest, so a token number becomes one character while it fits.
_CHARACTERS = 0x110000
_Coded = str | tuple[int, ...]


class _Bucket:
    """Bitmaps and entry numbers of all entries with one token count, in entry order."""

    def __init__(self) -> None:
        self.size = 0
        self.bitmaps = np.empty(16, dtype=np.uint64)
        self.entries = np.empty(16, dtype=np.int64)

    def append(self, bitmap: int, entry: int) -> None:
        if self.size == len(self.bitmaps):
            self.bitmaps = np.concatenate([self.bitmaps, np.empty_like(self.bitmaps)])
            self.entries = np.concatenate([self.entries, np.empty_like(self.entries)])
        self.bitmaps[self.size] = bitmap
        self.entries[self.size] = entry
        self.size += 1


class BucketEngine:
    """Length filter and bitmap scan over per-length buckets, then the exact LCS."""

    def __init__(self, rule: Rule, tokenizer: Tokenizer) -> None:
        self._rule = rule
        self._split = tokenizer.split
        self._numbers: dict[Any, int] = {}
        self._pool: list[_Coded] = []
        self._buckets: dict[int, _Bucket] = {}
        self._retracted: set[int] = set()
        self._untokenized = 0

    def add(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._append(self._learn(text))

    def admit(self, texts: Sequence[str]) -> list[Verdict]:
        verdicts = []
        for text in texts:
            numbers = self._learn(text)
            verdict = self._judge(numbers)
            if verdict == NOVEL:
                self._append(numbers)
            verdicts.append(verdict)
        return verdicts

    def check(self, text: str) -> Verdict:
        return self._judge(self._look_up(text))

    def scores(self, text: str) -> NDArray[np.float64]:
        numbers = self._look_up(text)
        coded, m = _code(numbers), len(numbers)
        return np.array(
            [f_measure(_lcs(coded, other), m, len(other)) for other in self._pool],
            dtype=np.float64,
        )

    def nearest(self, text: str, k: int, hidden: Set[int]) -> list[Verdict]:
        return highest(self.scores(text), k, hidden)

    def retract(self, entry: int) -> None:
        self._retracted.add(entry)

    def untokenized(self) -> int:
        return self._untokenized

    def maintain(self) -> None:
        """Nothing is ever out of order here."""

    def _judge(self, numbers: list[int]) -> Verdict:
        m = len(numbers)
        if not m:
            return NOVEL
        bitmap = np.uint64(_bitmap(numbers))
        least, most = self._rule.span(m)
        found = []
        lengths = range(least, most + 1)
        if len(lengths) > len(self._buckets):
            lengths = sorted(n for n in self._buckets if least <= n <= most)  # type: ignore[assignment]
        for n in lengths:
            bucket = self._buckets.get(n)
            if bucket is None:
                continue
            need = self._rule.need(m, n)
            if need == NEVER:
                continue
            differing = np.bitwise_count(bucket.bitmaps[: bucket.size] ^ bitmap)
            near = (differing <= m + n - 2 * need).nonzero()[0]
            if near.size:
                found.append(bucket.entries[near])
        if not found:
            return NOVEL
        coded = _code(numbers)
        for entry in np.sort(np.concatenate(found)).tolist():
            other = self._pool[entry]
            lcs = _lcs(coded, other)
            if lcs >= self._rule.need(m, len(other)) and entry not in self._retracted:
                return entry, f_measure(lcs, m, len(other))
        return NOVEL

    def _append(self, numbers: list[int]) -> None:
        entry = len(self._pool)
        self._pool.append(_code(numbers))
        if numbers:
            bucket = self._buckets.get(len(numbers))
            if bucket is None:
                bucket = self._buckets[len(numbers)] = _Bucket()
            bucket.append(_bitmap(numbers), entry)

    def _learn(self, text: str) -> list[int]:
        tokens = self._split(text)
        if not tokens and has_letters(text):
            self._untokenized += 1
        numbers = self._numbers
        return [numbers.setdefault(token, len(numbers)) for token in tokens]

    def _look_up(self, text: str) -> list[int]:
        """Number the tokens of a text; one that the pool has never seen gets a number of its own.

        A reader must not change the index, so such numbers are forgotten again.
        """
        known = self._numbers
        own: dict[Any, int] = {}
        return [
            number
            if (number := known.get(token)) is not None
            else own.setdefault(token, len(known) + len(own))
            for token in self._split(text)
        ]


def _bitmap(numbers: list[int]) -> int:
    bitmap = 0
    for number in numbers:
        bitmap ^= 1 << (number & 63)
    return bitmap


def _code(numbers: list[int]) -> _Coded:
    if numbers and max(numbers) >= _CHARACTERS:
        return tuple(numbers)
    return "".join(map(chr, numbers))


def _lcs(left: _Coded, right: _Coded) -> int:
    if isinstance(left, str) != isinstance(right, str):
        left, right = _spell(left), _spell(right)
    return int(LCSseq.similarity(left, right))


def _spell(coded: _Coded) -> tuple[int, ...]:
    return tuple(map(ord, coded)) if isinstance(coded, str) else coded
