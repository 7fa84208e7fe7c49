"""Compiled: the k documents with the highest scores, exactly, without comparing with all.

Two texts of m and n tokens whose parity words differ in d bits share at most (m + n - d) / 2
tokens, which bounds the LCS and so the score. Bounds are kept as levels of a 64th, rounded upwards,
one byte a document. First the few documents of the highest levels are compared; then those others
whose level is not below that of the k-th best score found.
"""

from typing import Any

import numpy as np

from pipeline.novelty.comparing import lcs_with, load, unload
from pipeline.novelty.compiled import compiled, inlined, integer, popcount
from pipeline.novelty.state import COUNT_CAP, COUNT_SHIFT, DOCUMENTS, Documents, Scratch, Tree

_PARITY = np.uint64((1 << COUNT_SHIFT) - 1)
_SHIFT = np.uint64(COUNT_SHIFT)
_STEPS = 64
_ROUNDING = 1e-6  # far above the last bits of the floats, far below a step
_FEW = 32  # documents compared before the rest is looked at


@inlined
def _score(lcs: int, m: int, n: int) -> float:
    """Return `rouge.f_measure`, in its order of floats."""
    if lcs == 0:
        return 0.0
    precision = lcs / n
    recall = lcs / m
    return 2 * precision * recall / (precision + recall)


@compiled
def _fill_levels(
    documents: Documents, held: int, m: int, own: np.uint64, hidden: Any, levels: Any, counts: Any
) -> None:
    """Write each document's level, from 1; 0 for a hidden one. `counts` gets how many have each."""
    factors = np.empty(COUNT_CAP + 1)
    for n in range(COUNT_CAP + 1):
        factors[n] = 2.0 * _STEPS / max(1, m + n)
    for i in range(held):
        word = documents.words[i]
        n = integer(word >> _SHIFT)
        factor = factors[n]
        if n == COUNT_CAP:
            n = integer(documents.counts[i])
            factor = 2.0 * _STEPS / max(1, m + n)
        most = min((m + n - popcount((word ^ own) & _PARITY)) >> 1, min(m, n))
        level = 0 if hidden[i] else 1 + integer(max(0, most) * factor + _ROUNDING)
        levels[i] = level
        counts[level] += 1


@compiled
def nearest(
    tree: Tree,
    documents: Documents,
    counters: Any,
    s: Scratch,
    tokens: Any,
    hidden: Any,
    levels: Any,
    entries: Any,
    scores: Any,
) -> int:
    """Write the entries and scores of the best documents, best first; return how many there are.

    Among equal scores the earlier document goes first. `hidden` has a 1 for each document that is
    not to be found; `levels` has room for a byte of each; as many are found as `entries` has room
    for, or as there are.
    """
    held = integer(counters[DOCUMENTS])
    wanted = len(entries)
    if wanted == 0:
        return 0
    m = len(tokens)
    own = load(s, documents, tree, counters, tokens, False)
    counts = np.zeros(_STEPS + 3, dtype=np.int64)
    _fill_levels(documents, held, m, own, hidden, levels, counts)
    split = _STEPS + 2
    above = 0
    while split > 1 and above < max(wanted, _FEW):
        split -= 1
        above += counts[split]
    found = 0
    for part in range(2):
        lowest = split
        if part == 1:
            # Fewer than wanted were found only if all were compared.
            if found < wanted or split == 1:
                break
            lowest = 1 + integer(scores[found - 1] * _STEPS)
        for i in range(held):
            if levels[i] < lowest or (part == 1 and levels[i] >= split):
                continue
            n = integer(documents.counts[i])
            score = 0.0
            if m > 0 and n > 0:
                score = _score(lcs_with(s, m, documents, i), m, n)
            if found == wanted:
                if not _beats(score, i, scores[found - 1], entries[found - 1]):
                    continue
            else:
                found += 1
            place = found - 1
            while place > 0 and _beats(score, i, scores[place - 1], entries[place - 1]):
                scores[place] = scores[place - 1]
                entries[place] = entries[place - 1]
                place -= 1
            scores[place] = score
            entries[place] = i
            if part == 1:
                lowest = 1 + integer(scores[found - 1] * _STEPS)
    unload(s, tokens)
    return found


@inlined
def _beats(score: float, document: int, other_score: float, other_document: int) -> bool:
    """Tell whether a document goes before another."""
    return score > other_score or (score == other_score and document < other_document)
