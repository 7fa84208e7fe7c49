"""Texts that are near one another, by rouge_score itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from rouge_score.rouge_scorer import RougeScorer

LIMIT = 0.5


def find_near(
    left: Sequence[str], right: Sequence[str] | None = None
) -> list[tuple[str, str, float]]:
    """Pairs whose ROUGE-L F-measure, unstemmed, is 0.5 or more; without `right` within `left`."""
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    tokens = {
        text: Counter(re.findall(r"[a-z0-9]+", text.lower())) for text in [*left, *(right or [])]
    }
    pairs = combinations(left, 2) if right is None else ((a, b) for a in left for b in right)
    found = []
    for a, b in pairs:
        # The common subsequence is at most the common words: most pairs need no table.
        common = (tokens[a] & tokens[b]).total()
        if 2 * common < LIMIT * (tokens[a].total() + tokens[b].total()):
            continue
        score = scorer.score(a, b)["rougeL"].fmeasure
        if score >= LIMIT:
            found.append((a, b, score))
    return found
