"""The novelty filter as published, one comparison after the other: slow, short, the oracle."""

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.novelty.engine import NOVEL, Verdict, highest
from pipeline.novelty.rouge import Rule, f_measure
from pipeline.novelty.tokenizers import Tokenizer, has_letters


def lcs_length(left: Sequence[Any], right: Sequence[Any]) -> int:
    """Return the length of the longest common subsequence by dynamic programming."""
    above = [0] * (len(right) + 1)
    for item in left:
        row = [0]
        for j, other in enumerate(right):
            row.append(above[j] + 1 if item == other else max(above[j + 1], row[j]))
        above = row
    return above[-1]


class PlainEngine:
    """Compares with every entry in entry order, and stops at the first that fires."""

    def __init__(self, rule: Rule, tokenizer: Tokenizer) -> None:
        self._rule = rule
        self._split = tokenizer.split
        self._pool: list[list[Any]] = []
        self._retracted: set[int] = set()
        self._untokenized = 0

    def add(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._pool.append(self._tokens(text))

    def admit(self, texts: Sequence[str]) -> list[Verdict]:
        verdicts = []
        for text in texts:
            tokens = self._tokens(text)
            verdict = self._judge(tokens)
            if verdict == NOVEL:
                self._pool.append(tokens)
            verdicts.append(verdict)
        return verdicts

    def check(self, text: str) -> Verdict:
        return self._judge(self._split(text))

    def scores(self, text: str) -> NDArray[np.float64]:
        tokens = self._split(text)
        return np.array([_score(tokens, other) for other in self._pool], dtype=np.float64)

    def nearest(self, texts: Sequence[str], k: int, hidden: Set[int]) -> list[list[Verdict]]:
        return [highest(self.scores(text), k, hidden) for text in texts]

    def retract(self, entry: int) -> None:
        self._retracted.add(entry)

    def untokenized(self) -> int:
        return self._untokenized

    def maintain(self) -> None:
        """Nothing is ever out of order here."""

    def _judge(self, tokens: list[Any]) -> Verdict:
        for entry, other in enumerate(self._pool):
            if entry not in self._retracted:
                score = _score(tokens, other)
                if self._rule.fires(score):
                    return entry, score
        return NOVEL

    def _tokens(self, text: str) -> list[Any]:
        tokens = self._split(text)
        if not tokens and has_letters(text):
            self._untokenized += 1
        return tokens


def _score(left: list[Any], right: list[Any]) -> float:
    if not left or not right:
        return 0.0
    return f_measure(lcs_length(left, right), len(left), len(right))
