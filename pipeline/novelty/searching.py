"""Compiled: from a loaded text to the earliest document that keeps it out.

First the tree names the posting lists that can hold one. If scanning them would cost more than
scanning the whole pool, the pool is scanned. A posting is only looked at further if its parity word
differs from the text's in few enough bits (two multisets of m and n tokens with `need` tokens in
common differ in at most m + n - 2·need elements, and each flips one bit), and then the exact LCS
decides.
"""

from typing import Any

import numpy as np

from pipeline.novelty.comparing import lcs_with, least_of, load, need_of, unload
from pipeline.novelty.compiled import compiled, inlined, integer, popcount
from pipeline.novelty.growing import (
    SPLIT_BIT,
    enter,
    find,
    forest_of,
    keep_document,
    path_hash,
    root_hash,
)
from pipeline.novelty.rouge import NEVER
from pipeline.novelty.state import (
    COUNT_CAP,
    COUNT_SHIFT,
    DOCUMENTS,
    FORESTS,
    INDEXED,
    Documents,
    Limits,
    Scratch,
    Tree,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_CAPACITY = np.uint64(0xFF)
_PARITY = np.uint64((1 << COUNT_SHIFT) - 1)
_SHIFT = np.uint64(COUNT_SHIFT)
_BLOCK = 32  # postings tested together, in vector instructions
_SCALE = 1 << 20
_LIST_COST = 16  # what reaching a list costs, in postings scanned
_FAILED = 64

# What `process` does.
ADMIT, ADD, KEEP, CHECK, ENTER = range(5)


@compiled
def _greatest(limits: Limits, m: int) -> int:
    """Return a bound on the token count that can fire with m tokens, rounded outwards."""
    return integer(np.ceil((2.0 - limits.threshold) * m / limits.threshold)) + 1


@compiled
def _name_lists(tree: Tree, limits: Limits, s: Scratch, m: int, documents_held: int) -> int:
    """Collect in `s.lists` the slots to scan; return how many, or -1 to scan the pool instead."""
    least = least_of(limits, m)
    if least == NEVER:
        return 0
    lists = 0
    cost = 0
    most = _greatest(limits, m)
    last = forest_of(min(most, 2**31 - 2))
    for forest in range(forest_of(least), last + 1):
        shortest = least
        if forest > 0:
            shortest = max(least, integer(FORESTS[forest - 1]))
        # With partners of this forest at least so many tokens must be shared.
        need = need_of(limits, m, shortest)
        if need == NEVER:
            continue
        root = root_hash(forest)
        top = 0
        for i in range(min(m, m - need + 1)):
            s.stack[2 * top] = path_hash(root, integer(s.elements[i]))
            s.stack[2 * top + 1] = _ONE << _HALF | np.uint64(i)
            top += 1
        while top > 0:
            top -= 1
            key = s.stack[2 * top]
            slot = find(tree.table, key)
            cost += 4
            if slot >= 0:
                count = integer(tree.table[slot + 2] & _LOW)
                if count > 0:
                    if lists == len(s.lists):
                        return -1
                    s.lists[lists] = slot
                    lists += 1
                    cost += count + _LIST_COST
                if tree.table[slot + 3] & SPLIT_BIT != _ZERO:
                    place = integer(s.stack[2 * top + 1] & _LOW)
                    depth = integer(s.stack[2 * top + 1] >> _HALF)
                    for j in range(place + 1, min(m - 1, m - need + depth) + 1):
                        s.stack[2 * top] = path_hash(key, integer(s.elements[j]))
                        s.stack[2 * top + 1] = np.uint64(depth + 1) << _HALF | np.uint64(j)
                        top += 1
            if cost > documents_held * limits.patience:
                return -1
    return lists


@inlined
def _compare(
    s: Scratch,
    limits: Limits,
    documents: Documents,
    m: int,
    own: np.uint64,
    document: int,
    word: np.uint64,
) -> int:
    """Return the LCS length with a document if it fires, else 0."""
    place = document & (_FAILED - 1)
    if s.failed[place] == document:
        return 0
    n = integer(word >> _SHIFT)
    if n == COUNT_CAP:
        n = integer(documents.counts[document])
    # The posting alone tells all this, and most are out before the document is fetched.
    if n == 0:
        return 0
    need = need_of(limits, m, n)
    if need == NEVER or popcount((word ^ own) & _PARITY) > m + n - 2 * need:
        return 0
    # A retracted document has no tokens left.
    lcs = lcs_with(s, m, documents, document)
    if lcs >= need:
        return lcs
    s.failed[place] = document
    return 0


@inlined
def _passes(word: np.uint64, own: np.uint64, constant: int, slope: int) -> bool:
    """Tell whether two parity words leave room for a match; their bound is rounded upwards."""
    n = integer(word >> _SHIFT)
    differing = popcount((word ^ own) & _PARITY)
    # The mask tells the compiler that 32 bits suffice, for which there is a vector multiplication.
    bound = constant + (slope & 0xFFFFFFFF) * n
    passes: bool = (differing * _SCALE <= bound) | (n == COUNT_CAP)
    return passes


@inlined
def _any_passes(words: Any, own: np.uint64, constant: int, slope: int) -> bool:
    """Tell whether one of the words passes; over a slice, so that the loop becomes vectors."""
    hits = 0
    for i in range(len(words)):
        hits += integer(_passes(words[i], own, constant, slope))
    return hits > 0


@compiled
def search(
    tree: Tree,
    documents: Documents,
    limits: Limits,
    counters: Any,
    s: Scratch,
    m: int,
    own: np.uint64,
) -> tuple[int, int]:
    """Return the earliest document that fires with the loaded text and its LCS, or (-1, 0)."""
    held = counters[DOCUMENTS]
    best = held
    best_lcs = 0
    if m == 0:
        return -1, 0
    # differing <= m + n - 2·need <= (1 - threshold)(m + n), scaled to integers and rounded up.
    slope = integer(np.ceil((1.0 - limits.threshold) * _SCALE)) + 1
    constant = slope * m + 64
    for i in range(_FAILED):
        s.failed[i] = -1
    lists = -1
    if counters[INDEXED] == held:
        lists = _name_lists(tree, limits, s, m, held)
    if lists < 0:
        return _scan_pool(documents, limits, s, m, own, held, constant, slope)
    for k in range(lists):
        slot = s.lists[k]
        count = integer(tree.table[slot + 2] & _LOW)
        if tree.table[slot + 3] >> _HALF & _CAPACITY == _ZERO:
            document = integer(tree.table[slot + 2] >> _HALF)
            if document < best and _passes(tree.table[slot + 1], own, constant, slope):
                lcs = _compare(s, limits, documents, m, own, document, tree.table[slot + 1])
                if lcs > 0:
                    best = document
                    best_lcs = lcs
            continue
        start = integer(tree.table[slot + 1])
        block = start
        while block < start + count:
            # Most texts find nothing, and for them the documents are not even fetched.
            if best < held and tree.documents[block] >= best:
                break
            end = min(block + _BLOCK, start + count)
            if _any_passes(tree.words[block:end], own, constant, slope):
                for i in range(block, end):
                    if _passes(tree.words[i], own, constant, slope):
                        document = integer(tree.documents[i])
                        if document >= best:
                            break
                        lcs = _compare(s, limits, documents, m, own, document, tree.words[i])
                        if lcs > 0:
                            best = document
                            best_lcs = lcs
                            break
            block = end
    if best == held:
        return -1, 0
    return best, best_lcs


@compiled
def _scan_pool(
    documents: Documents,
    limits: Limits,
    s: Scratch,
    m: int,
    own: np.uint64,
    held: int,
    constant: int,
    slope: int,
) -> tuple[int, int]:
    """Return the first document that fires, from a scan of all parity words."""
    for block in range(0, held, _BLOCK):
        end = min(block + _BLOCK, held)
        if _any_passes(documents.words[block:end], own, constant, slope):
            for i in range(block, end):
                if _passes(documents.words[i], own, constant, slope):
                    lcs = _compare(s, limits, documents, m, own, i, documents.words[i])
                    if lcs > 0:
                        return i, lcs
    return -1, 0


@compiled
def process(
    tree: Tree,
    documents: Documents,
    limits: Limits,
    counters: Any,
    s: Scratch,
    mode: int,
    tokens: Any,
    starts: Any,
    begin: int,
    blockers: Any,
    lengths: Any,
) -> int:
    """Work through texts from `begin` on, as the mode says.

    ADMIT judges each, and each novel one joins before the next; ADD lets all join; KEEP too, but
    leaves them out of the tree; CHECK judges and writes nothing but the scratch. Where it judges,
    the blocker (-1 where there is none) and the LCS length of each text are written. ENTER takes no
    texts: it puts the documents that are not in the tree yet into it.

    Returns the number of the text to go on with once the tree's arrays have room again. It is one
    function for all because every compiled entry costs seconds on a machine's first run.
    """
    waiting = counters[INDEXED] < counters[DOCUMENTS]
    if mode == ENTER:
        while counters[INDEXED] < counters[DOCUMENTS]:
            document = counters[INDEXED]
            if s.pending[0] < 0:
                start = documents.starts[document]
                held = documents.tokens[start : start + documents.counts[document]]
                load(s, documents, tree, counters, held, True)
                unload(s, held)
            if not enter(tree, documents, limits, counters, s, document):
                return begin
        return begin
    if mode <= ADD and waiting:
        begin -= 1
    for i in range(begin, len(starts) - 1):
        if waiting and mode <= ADD:
            # The last document's insertion waited for room; its elements are still loaded.
            waiting = False
        else:
            own_tokens = tokens[starts[i] : starts[i + 1]]
            m = len(own_tokens)
            own = load(s, documents, tree, counters, own_tokens, mode != CHECK)
            blocker, lcs = -1, 0
            if mode in (ADMIT, CHECK):
                blocker, lcs = search(tree, documents, limits, counters, s, m, own)
                blockers[i] = blocker
                lengths[i] = lcs
            unload(s, own_tokens)
            if blocker >= 0 or mode == CHECK:
                continue
            keep_document(documents, counters, s, own_tokens, own)
            if mode == KEEP:
                continue
        if not enter(tree, documents, limits, counters, s, counters[DOCUMENTS] - 1):
            return i + 1
    return len(starts) - 1


@compiled
def lcs_with_all(
    tree: Tree, documents: Documents, counters: Any, s: Scratch, tokens: Any, lengths: Any
) -> None:
    """Write the LCS length of a text with every document."""
    load(s, documents, tree, counters, tokens, False)
    for document in range(counters[DOCUMENTS]):
        lengths[document] = 0
        if len(tokens) > 0:
            lengths[document] = lcs_with(s, len(tokens), documents, document)
    unload(s, tokens)
