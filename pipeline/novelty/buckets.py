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
        self._known_partners: dict[int, tuple[int, list[tuple[_Bucket, int, int]]]] = {}
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

    def nearest(self, texts: Sequence[str], k: int, hidden: Set[int]) -> list[list[Verdict]]:
        return [highest(self.scores(text), k, hidden) for text in texts]

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
        coded = _code(numbers)
        best, best_lcs = len(self._pool), 0
        for bucket, room, need in self._partners(m):
            differing = np.bitwise_count(bucket.bitmaps[: bucket.size] ^ bitmap)
            near = (differing <= room).nonzero()[0]
            if not near.size:
                continue
            for entry in bucket.entries[near].tolist():
                if entry >= best:
                    break
                lcs = _lcs(coded, self._pool[entry])
                if lcs >= need and entry not in self._retracted:
                    best, best_lcs = entry, lcs
                    break
        if not best_lcs:
            return NOVEL
        return best, f_measure(best_lcs, m, len(self._pool[best]))

    def _partners(self, m: int) -> list[tuple[_Bucket, int, int]]:
        """Buckets that can hold a blocker of a text of m tokens, each with the most bits in which
        bitmaps may differ and the LCS length that fires; made again when a bucket is new."""
        known = self._known_partners.get(m)
        if known is None or known[0] != len(self._buckets):
            least, most = self._rule.span(m)
            found = []
            for n, bucket in self._buckets.items():
                need = self._rule.need(m, n) if least <= n <= most else NEVER
                if need != NEVER:
                    found.append((bucket, m + n - 2 * need, need))
            known = self._known_partners[m] = (len(self._buckets), found)
        return known[1]

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
    if type(left) is not type(right):
        left, right = _spell(left), _spell(right)
    lcs: int = LCSseq.similarity(left, right)
    return lcs


def _spell(coded: _Coded) -> tuple[int, ...]:
    return tuple(map(ord, coded)) if isinstance(coded, str) else coded
