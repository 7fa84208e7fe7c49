"""Compiled: the rule in integers, and the exact LCS of a loaded text with a document.

The LCS is bit-parallel: Hyyrö (2004, "Bit-parallel LCS-length computation revisited") in the form
of Crochemore, Iliopoulos, Pinzon and Reid (2001): the text is packed once into one bit mask a
token, and every token of the document then costs a handful of word operations, with a carry from
word to word beyond 64 tokens.
"""

from typing import Any

import numpy as np

from pipeline.novelty.compiled import compiled, inlined, integer, popcount
from pipeline.novelty.rouge import NEVER
from pipeline.novelty.state import (
    COPIES,
    COUNT_CAP,
    COUNT_SHIFT,
    IDS,
    PARITY_BITS,
    RANKED,
    Documents,
    Limits,
    Scratch,
    Tree,
)

TABLED = 129
_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_SIX = np.uint64(6)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ONES = np.uint64(2**64 - 1)
_SORT_BY_INSERTION = 48


@compiled
def work_out_need(m: int, n: int, threshold: float, strict: bool) -> int:
    """Return the smallest LCS length that fires; the floats of `rouge.f_measure`, in its order."""
    limit = min(m, n)
    lcs = max(1, int(np.floor(threshold * (m + n) / 2.0)) - 1)
    for _ in range(4):
        if lcs > limit:
            return NEVER
        precision = lcs / n
        recall = lcs / m
        score = 2 * precision * recall / (precision + recall)
        if score > threshold or (score == threshold and not strict):
            return lcs
        lcs += 1
    return NEVER


@inlined
def need_of(limits: Limits, m: int, n: int) -> int:
    """Return the smallest LCS length that fires for token counts m, n >= 1, or NEVER."""
    if m < TABLED and n < TABLED:
        return integer(limits.needs[m, n])
    return work_out_need(m, n, limits.threshold, limits.strict)


@compiled
def work_out_least(n: int, threshold: float, strict: bool) -> int:
    """Return the smallest token count with which a text of n tokens can fire, or NEVER."""
    m = max(1, int(np.floor(threshold * n / (2.0 - threshold))) - 1)
    while m <= n:
        if work_out_need(m, n, threshold, strict) <= m:
            return m
        m += 1
    return NEVER


@inlined
def least_of(limits: Limits, n: int) -> int:
    """Return the smallest token count of a partner of n tokens, or NEVER."""
    if n < TABLED:
        return integer(limits.least[n])
    return work_out_least(n, limits.threshold, limits.strict)


@compiled
def tabulate(limits: Limits) -> None:
    """Fill the tables of a rule."""
    for m in range(1, TABLED):
        for n in range(1, TABLED):
            limits.needs[m, n] = work_out_need(m, n, limits.threshold, limits.strict)
        limits.least[m] = work_out_least(m, limits.threshold, limits.strict)


@inlined
def copies_place(key: np.uint64, mask: np.uint64) -> np.uint64:
    """Return where a (token, copy) pair is looked for first."""
    return (key * _GOLDEN >> np.uint64(20)) & mask


@compiled
def _copy_element(
    documents: Documents, counters: Any, token: int, copy: int, grow: bool, other: int
) -> int:
    """Return the element of a further copy of a token; `other` where it is new and may not grow."""
    copies = documents.copies
    mask = np.uint64(len(copies) // 2 - 1)
    key = (np.uint64(token) << np.uint64(32) | np.uint64(copy)) + _ONE
    i = copies_place(key, mask)
    while True:
        slot = 2 * integer(i)
        held = copies[slot]
        if held == key:
            return integer(copies[slot + 1])
        if held == _ZERO:
            if not grow:
                return other
            element = integer(counters[IDS])
            counters[IDS] += 1
            counters[COPIES] += 1
            copies[slot] = key
            copies[slot + 1] = np.uint64(element)
            return element
        i = (i + _ONE) & mask


@compiled
def load(
    s: Scratch, documents: Documents, tree: Tree, counters: Any, tokens: Any, grow: bool
) -> np.uint64:
    """Load a text into the scratch: its masks, and its elements in the tree's order.

    Returns its parity word. With `grow` new copies get numbers; without, as for a check, they get
    passing numbers that no document has.
    """
    m = len(tokens)
    words = (m + 63) >> 6
    word = _ZERO
    passing = counters[IDS] + m
    distinct = 0
    for i in range(m):
        token = integer(tokens[i])
        bit = _ONE << np.uint64(i & 63)
        if words == 1:
            copy = popcount(s.direct[token]) + 1
            s.direct[token] |= bit
        else:
            if s.direct[token] == _ZERO:
                for w in range(words):
                    s.masks[distinct * words + w] = _ZERO
                s.seen[distinct] = 0
                s.direct[token] = np.uint64(1 + distinct)
                distinct += 1
            number = integer(s.direct[token]) - 1
            s.masks[number * words + (i >> 6)] |= bit
            s.seen[number] += 1
            copy = integer(s.seen[number])
        element = token
        if copy > 1:
            element = _copy_element(documents, counters, token, copy, grow, passing + i)
        word ^= _ONE << ((np.uint64(element) * _GOLDEN >> np.uint64(32)) % np.uint64(PARITY_BITS))
        rank = -element
        if element < counters[RANKED]:
            rank = tree.ranks[element]
        s.order[i] = (rank << 32) | element
    if m <= _SORT_BY_INSERTION:
        for i in range(1, m):
            key = s.order[i]
            j = i - 1
            while j >= 0 and s.order[j] > key:
                s.order[j + 1] = s.order[j]
                j -= 1
            s.order[j + 1] = key
    else:
        s.order[:m].sort()
    for i in range(m):
        s.elements[i] = s.order[i] & 0xFFFFFFFF
    return word | np.uint64(min(m, COUNT_CAP)) << np.uint64(COUNT_SHIFT)


@compiled
def unload(s: Scratch, tokens: Any) -> None:
    """Take the masks of a loaded text away again."""
    for i in range(len(tokens)):
        s.direct[tokens[i]] = _ZERO


@inlined
def lcs_with(s: Scratch, m: int, documents: Documents, document: int) -> int:
    """Return the LCS length of the loaded text of m tokens with a document."""
    start = documents.starts[document]
    end = start + documents.counts[document]
    words = (m + 63) >> 6
    if words == 1:
        row = _ONES
        for i in range(start, end):
            # A token that the text lacks has an empty mask, which changes nothing: no branch.
            both = row & s.direct[documents.tokens[i]]
            row = (row + both) | (row - both)
        return popcount(~row & (_ONES >> np.uint64(64 - m)))
    for w in range(words):
        s.row[w] = _ONES
    for i in range(start, end):
        number = integer(s.direct[documents.tokens[i]])
        if number > 0:
            base = (number - 1) * words
            carry = _ZERO
            for w in range(words):
                value = s.row[w]
                both = value & s.masks[base + w]
                total = value + both
                over = total < value
                total += carry
                carry = _ONE if over or total < carry else _ZERO
                s.row[w] = total | (value - both)
    length = 0
    for w in range(words):
        value = ~s.row[w]
        if w == words - 1:
            value &= _ONES >> np.uint64(64 * words - m)
        length += popcount(value)
    return length
