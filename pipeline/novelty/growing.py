"""Compiled: documents join, enter the prefix tree, and long posting lists are split.

The prefix filter (Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search") rests on
one total order of elements: if two sets of m and n elements share at least a, their d-th shared
element stands at position m - a + d - 1 or earlier (from 0) in one and n - a + d - 1 or earlier in
the other. A node of the tree is a path of elements in that order, and a document lies under the
paths that can be its first shared elements with some text that it blocks.
"""

from typing import Any

import numpy as np

from pipeline.novelty.comparing import copies_place, least_of, need_of
from pipeline.novelty.compiled import compiled, inlined, integer
from pipeline.novelty.rouge import NEVER
from pipeline.novelty.state import (
    DOCUMENTS,
    ELEMENTS,
    FORESTS,
    FULL,
    FULL_ELEMENTS,
    FULL_POSTINGS,
    FULL_TABLE,
    INDEXED,
    NODES,
    POSTINGS,
    TOKENS,
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
SPLIT_BIT = np.uint64(1 << 40)
_MIX_1 = np.uint64(0x9E3779B97F4A7C15)
_MIX_2 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_3 = np.uint64(0x94D049BB133111EB)
_FIRST_BLOCK = 2  # logarithm of the capacity of a list's first block


@inlined
def path_hash(parent: np.uint64, element: int) -> np.uint64:
    """Return the hash of a path from that of its parent; two equal ones merely share a list."""
    h = (parent ^ np.uint64(element)) + _MIX_1
    h = (h ^ (h >> np.uint64(30))) * _MIX_2
    h = (h ^ (h >> np.uint64(27))) * _MIX_3
    return (h ^ (h >> np.uint64(31))) | _ONE


@inlined
def root_hash(forest: int) -> np.uint64:
    """Return the path hash of a forest's root."""
    return np.uint64(forest + 1) << np.uint64(48)


@inlined
def forest_of(n: int) -> int:
    """Return the forest of documents with n tokens."""
    forest = 0
    while n >= FORESTS[forest]:
        forest += 1
    return forest


@inlined
def depth_of(n: int) -> int:
    """Return how deep a document of n tokens may be split: its paths multiply with its length."""
    if n <= 40:
        return 3
    if n <= 160:
        return 2
    return 1


@inlined
def find(table: Any, key: np.uint64) -> int:
    """Return where the slot of a path begins, or -1 - where its slot would begin."""
    mask = np.uint64(len(table) // 4 - 1)
    i = (key >> np.uint64(8)) & mask
    while True:
        base = integer(i) * 4
        held = table[base]
        if held == key:
            return base
        if held == _ZERO:
            return -1 - base
        i = (i + _ONE) & mask


@compiled
def rehash(table: Any, larger: Any) -> None:
    """Move all nodes to a larger table of zeros."""
    for base in range(0, len(table), 4):
        if table[base] != _ZERO:
            place = -1 - find(larger, table[base])
            for i in range(4):
                larger[place + i] = table[base + i]


@compiled
def rehash_copies(copies: Any, larger: Any) -> None:
    """Move all (token, copy) pairs to a larger table of zeros."""
    mask = np.uint64(len(larger) // 2 - 1)
    for base in range(0, len(copies), 2):
        if copies[base] != _ZERO:
            i = copies_place(copies[base], mask)
            while larger[2 * integer(i)] != _ZERO:
                i = (i + _ONE) & mask
            larger[2 * integer(i)] = copies[base]
            larger[2 * integer(i) + 1] = copies[base + 1]


@compiled
def _take_block(tree: Tree, counters: Any, size: int) -> int:
    """Return a block of 2^size postings, or -1 where there is no room left."""
    head = integer(tree.free[size])
    if head >= 0:
        tree.free[size] = integer(tree.words[head])
        return head
    top = integer(counters[POSTINGS])
    if top + (1 << size) > len(tree.words):
        counters[FULL] |= FULL_POSTINGS
        return -1
    counters[POSTINGS] = top + (1 << size)
    return top


@compiled
def _give_block(tree: Tree, start: int, size: int) -> None:
    tree.words[start] = np.uint64(tree.free[size])
    tree.free[size] = start


@compiled
def _append(
    tree: Tree, counters: Any, key: np.uint64, element: int, document: int, word: np.uint64
) -> int:
    """Add a posting to a path's list; return its slot, or -1 where there is no room left."""
    table = tree.table
    base = find(table, key)
    if base < 0:
        if 2 * (counters[NODES] + 1) > len(table) // 4:
            counters[FULL] |= FULL_TABLE
            return -1
        counters[NODES] += 1
        base = -1 - base
        table[base] = key
        table[base + 1] = word
        table[base + 2] = np.uint64(document) << _HALF | _ONE
        table[base + 3] = np.uint64(element)
        return base
    count = integer(table[base + 2] & _LOW)
    size = integer(table[base + 3] >> _HALF & _CAPACITY)
    if size == 0:
        if count == 0:
            table[base + 1] = word
            table[base + 2] = np.uint64(document) << _HALF | _ONE
            return base
        start = _take_block(tree, counters, _FIRST_BLOCK)
        if start < 0:
            return -1
        tree.words[start] = table[base + 1]
        tree.documents[start] = np.int32(table[base + 2] >> _HALF)
        table[base + 1] = np.uint64(start)
        table[base + 3] += np.uint64(_FIRST_BLOCK) << _HALF
    else:
        start = integer(table[base + 1])
        if count == 1 << size:
            larger = _take_block(tree, counters, size + 1)
            if larger < 0:
                return -1
            for i in range(count):
                tree.words[larger + i] = tree.words[start + i]
                tree.documents[larger + i] = tree.documents[start + i]
            _give_block(tree, start, size)
            start = larger
            table[base + 1] = np.uint64(start)
            table[base + 3] += _ONE << _HALF
    tree.words[start + count] = word
    tree.documents[start + count] = document
    table[base + 2] = np.uint64(count + 1)
    return base


@compiled
def _stays(documents: Documents, limits: Limits, document: int, depth: int) -> bool:
    """Tell whether a document belongs in the rest list of a split node at that depth.

    It does when it may share no more elements than the path has with a text that it blocks: such a
    text would never look further down. Forgetting these loses matches in silence.
    """
    n = integer(documents.counts[document])
    # A retracted document has no tokens any more; it waits here for the next rebuild.
    if n == 0 or depth >= depth_of(n):
        return True
    return need_of(limits, least_of(limits, n), n) <= depth


@compiled
def _place_of(tree: Tree, document: int, element: int) -> int:
    """Return the position of an element among a document's first ones, or -1."""
    start = tree.element_starts[document]
    for i in range(tree.element_starts[document + 1] - start):
        if tree.elements[start + i] == element:
            return i
    return -1


@compiled
def _split(
    tree: Tree,
    documents: Documents,
    limits: Limits,
    counters: Any,
    base: int,
    depth: int,
) -> bool:
    """Split a node's list by the next shared element; False where the room would not do."""
    table = tree.table
    count = integer(table[base + 2] & _LOW)
    start = integer(table[base + 1])
    key = table[base]
    element = integer(table[base + 3] & _LOW)
    children = 0
    for i in range(count):
        document = tree.documents[start + i]
        if not _stays(documents, limits, document, depth):
            n = integer(documents.counts[document])
            children += min(n - 1, n - need_of(limits, least_of(limits, n), n) + depth)
    if counters[POSTINGS] + 4 * children > len(tree.words):
        counters[FULL] |= FULL_POSTINGS
        return False
    if 2 * (counters[NODES] + children + 1) > len(table) // 4:
        counters[FULL] |= FULL_TABLE
        return False
    # A posting stays, or goes to every element that can be the next shared one.
    kept = 0
    for i in range(count):
        document = tree.documents[start + i]
        word = tree.words[start + i]
        place = -1
        if not _stays(documents, limits, document, depth):
            place = _place_of(tree, document, element)
        if place < 0:
            tree.documents[start + kept] = document
            tree.words[start + kept] = word
            kept += 1
            continue
        n = integer(documents.counts[document])
        last = min(n - 1, n - need_of(limits, least_of(limits, n), n) + depth)
        first = tree.element_starts[document]
        for j in range(place + 1, last + 1):
            child = integer(tree.elements[first + j])
            _append(tree, counters, path_hash(key, child), child, document, word)
    table[base + 2] = np.uint64(kept)
    table[base + 3] |= SPLIT_BIT
    if kept == 0:
        size = integer(table[base + 3] >> _HALF & _CAPACITY)
        _give_block(tree, start, size)
        table[base + 3] &= ~(_CAPACITY << _HALF)
    return True


@compiled
def keep_document(
    documents: Documents, counters: Any, s: Scratch, tokens: Any, word: np.uint64
) -> int:
    """Append the loaded text to the documents; it is not in the tree yet. Returns its number."""
    m = len(tokens)
    document = integer(counters[DOCUMENTS])
    start = counters[TOKENS]
    documents.starts[document] = start
    documents.counts[document] = m
    documents.words[document] = word
    for i in range(m):
        documents.tokens[start + i] = tokens[i]
        documents.frequencies[s.elements[i]] += 1
    counters[TOKENS] = start + m
    counters[DOCUMENTS] = document + 1
    return document


@compiled
def enter(
    tree: Tree, documents: Documents, limits: Limits, counters: Any, s: Scratch, document: int
) -> bool:
    """Put the loaded document, the next in order, into the tree.

    Returns False where the arrays are full; called again with larger ones it goes on.
    """
    n = integer(documents.counts[document])
    if s.pending[0] < 0 and not _begin(tree, limits, counters, s, document, n):
        return False
    need = 1
    if n > 0 and least_of(limits, n) != NEVER:
        need = need_of(limits, least_of(limits, n), n)
    word = documents.words[document]
    top = s.pending[0]
    while top > 0:
        key = s.stack[2 * top - 2]
        place = integer(s.stack[2 * top - 1] & _LOW)
        depth = integer(s.stack[2 * top - 1] >> _HALF)
        element = integer(s.elements[place])
        slot = find(tree.table, key)
        if (
            slot >= 0
            and tree.table[slot + 3] & SPLIT_BIT != _ZERO
            and depth < depth_of(n)
            and need > depth
        ):
            top -= 1
            for j in range(place + 1, min(n - 1, n - need + depth) + 1):
                s.stack[2 * top] = path_hash(key, integer(s.elements[j]))
                s.stack[2 * top + 1] = np.uint64(depth + 1) << _HALF | np.uint64(j)
                top += 1
            continue
        slot = _append(tree, counters, key, element, document, word)
        if slot < 0:
            s.pending[0] = top
            return False
        top -= 1
        long = integer(tree.table[slot + 2] & _LOW) > limits.split
        whole = tree.table[slot + 3] & SPLIT_BIT == _ZERO
        if long and whole and depth < 3:
            # One that waits for room is split when the next posting comes.
            _split(tree, documents, limits, counters, slot, depth)
    s.pending[0] = -1
    counters[INDEXED] = document + 1
    return True


@compiled
def _begin(tree: Tree, limits: Limits, counters: Any, s: Scratch, document: int, n: int) -> bool:
    """Note a document's first elements and put its roots on the stack."""
    start = counters[ELEMENTS]
    tree.element_starts[document] = start
    tree.element_starts[document + 1] = start
    s.pending[0] = 0
    if n == 0 or least_of(limits, n) == NEVER:
        return True
    need = need_of(limits, least_of(limits, n), n)
    depth = depth_of(n)
    if depth > 1:
        kept = min(n, n - need + depth)
        if start + kept > len(tree.elements):
            s.pending[0] = -1
            counters[FULL] |= FULL_ELEMENTS
            return False
        for i in range(kept):
            tree.elements[start + i] = s.elements[i]
        counters[ELEMENTS] = start + kept
        tree.element_starts[document + 1] = start + kept
    key = root_hash(forest_of(n))
    top = 0
    for i in range(n - need + 1):
        s.stack[2 * top] = path_hash(key, integer(s.elements[i]))
        s.stack[2 * top + 1] = _ONE << _HALF | np.uint64(i)
        top += 1
    s.pending[0] = top
    return True
