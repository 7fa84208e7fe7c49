"""ROUGE-L F-measure from lengths, and which LCS lengths reach a threshold.

ROUGE-L (Lin 2004, "ROUGE: a package for automatic evaluation of summaries") of two token lists of
m and n tokens whose longest common subsequence has l tokens is F = 2pr/(p + r) with p = l/n and
r = l/m. `rouge_score` computes it in floats in that order, and a text whose F is exactly 0.7 as a
fraction lands on either side of the float 0.7. So the float arithmetic is done here once for each
pair of lengths, and everything after it compares integers.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from typing import Literal

from pipeline.errors import UsageError

AtThreshold = Literal["reject", "admit"]
# A need that no LCS reaches; it is above every possible LCS length.
NEVER = 2**31 - 1


def f_measure(lcs: int, m: int, n: int) -> float:
    """Return ROUGE-L's F for token counts m and n and a common subsequence of `lcs` tokens."""
    if lcs == 0 or m == 0 or n == 0:
        return 0.0
    precision = lcs / n
    recall = lcs / m
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule that rejects: F >= threshold (`reject`, the paper's), or F > threshold (`admit`)."""

    threshold: float
    at_threshold: AtThreshold

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise UsageError(
                f"The novelty threshold must be above 0 and at most 1, not {self.threshold!r}."
            )
        if self.at_threshold not in ("reject", "admit"):
            raise UsageError(
                f"novelty.at_threshold must be 'reject' or 'admit', not {self.at_threshold!r}."
            )

    def fires(self, score: float) -> bool:
        """Tell whether a score keeps a text out."""
        if self.at_threshold == "reject":
            return score >= self.threshold
        return score > self.threshold

    def need(self, m: int, n: int) -> int:
        """Return the smallest LCS length that fires for token counts m and n, or NEVER."""
        return _need(self, m, n)

    def span(self, m: int) -> tuple[int, int]:
        """Return the least and greatest token count that can block a text of m >= 1 tokens.

        LCS <= min(m, n) bounds F by 2·min/(m + n), so that n lies between about tm/(2 - t) and
        (2 - t)m/t; the limits are rounded outwards by one against the last bit of the floats.
        """
        t = self.threshold
        return max(1, floor(t * m / (2 - t)) - 1), ceil((2 - t) * m / t) + 1


@lru_cache(maxsize=1 << 16)
def _need(rule: Rule, m: int, n: int) -> int:
    # As a fraction F = 2l/(m + n); the float differs in its last bits only, so that the answer is
    # at most one away from where the fraction crosses the threshold.
    least = max(1, floor(rule.threshold * (m + n) / 2) - 1)
    for lcs in range(least, least + 4):
        if lcs > min(m, n):
            return NEVER
        if rule.fires(f_measure(lcs, m, n)):
            return lcs
    return NEVER
