"""The arrays that make up a tree, shared by the compiled functions.

numba compiles functions over flat arrays; these tuples name them. An array that is full is replaced
by a larger copy between two calls (`tree.py`), never inside one.

A *token* is a distinct word of the tokenizer, numbered from 0. An *element* is a (token, copy
number) pair, so that a multiset of tokens is a set of elements: the first copy has its token's
number, further copies get numbers of their own from the same counter.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Places in `Tree.counters`.
DOCUMENTS = 0  # documents held
TOKENS = 1  # numbers in use in `Documents.tokens`
ELEMENTS = 2  # numbers in use in `Tree.elements`
POSTINGS = 3  # postings given out, free blocks included
NODES = 4  # slots in use in `Tree.table`
IDS = 5  # token and element numbers given out
COPIES = 6  # slots in use in `Documents.copies`
RANKED = 7  # ids below this have a rank in `Tree.ranks`
FULL = 8  # which arrays something had to wait for: the FULL_ bits
INDEXED = 9  # documents in the tree; the rest is held but not yet indexed
WORDS = 10  # keys in the default tokenizer's table
COUNTERS = 16

FULL_TABLE = 1
FULL_POSTINGS = 2
FULL_ELEMENTS = 4

# A document's word: 56 bits parity of its elements, above them its token count, at most 255.
COUNT_SHIFT = 56
COUNT_CAP = 255
PARITY_BITS = 56

# Token counts below which each forest lies. A text is compared with the forests that its length
# span touches, so that the tree of short texts is never burdened with the prefixes of long ones.
FORESTS = np.array([33, 129, 513, 2049, 2**31 - 1], dtype=np.int64)


class Documents(NamedTuple):
    """The texts of the pool as token numbers, in entry order; independent of the token order."""

    tokens: NDArray[np.int32]  # all documents one after another
    starts: NDArray[np.int64]  # where each begins in `tokens`
    counts: NDArray[np.int32]  # its token count; 0 for an empty or retracted one, which never fires
    words: NDArray[np.uint64]  # its parity word, see COUNT_SHIFT
    frequencies: NDArray[np.int32]  # by element: documents that have it
    copies: NDArray[np.uint64]  # hash table (token << 32 | copy) + 1 -> element, two words a slot


class Tree(NamedTuple):
    """Prefix tree: a hash table of nodes, their posting lists, and the order of elements.

    A slot is four words: the hash of the node's path (0 for a free slot); the start of its posting
    list, or the word of its only posting; that list's length (low half) and the document of its
    only posting (high half); the path's last element (low half), the logarithm of the list's
    capacity (8 bits) and whether the node is split (1 bit).
    """

    table: NDArray[np.uint64]
    words: NDArray[np.uint64]  # posting: the document's word
    documents: NDArray[np.int32]  # posting: the document
    free: NDArray[np.int64]  # heads of the lists of free posting blocks, by logarithm of size
    elements: NDArray[np.int32]  # each document's first elements in the tree's order
    element_starts: NDArray[np.int64]  # where a document's begin; as long as documents + 1
    ranks: NDArray[np.int64]  # by element, as of the last rebuild; newer elements rank first


class Limits(NamedTuple):
    """The rule in integers. Needs beyond the tables are worked out where they are wanted."""

    needs: NDArray[np.int32]  # [m, n]: smallest LCS length that fires, for m, n <= 128
    least: NDArray[np.int32]  # [n]: smallest token count of a partner that can fire with n
    threshold: float
    strict: bool  # whether a score must exceed the threshold to fire
    split: int  # a list longer than this is split
    patience: int  # the tree may cost so many times the pool's size before the pool is scanned


class Scratch(NamedTuple):
    """Room for one text at a time; every thread has its own."""

    direct: NDArray[np.uint64]  # by token: its mask, or for long texts 1 + its number
    seen: NDArray[np.int32]  # long texts: copies of the distinct token of that number
    masks: NDArray[np.uint64]  # long texts: positions of a token in the text, one bit each
    order: NDArray[np.int64]  # rank and element, to sort by
    elements: NDArray[np.int32]  # the text's elements in the tree's order
    row: NDArray[np.uint64]  # state of the bit-parallel LCS
    stack: NDArray[np.uint64]  # nodes to visit: path hash, position and depth, two words each
    lists: NDArray[np.int64]  # slots whose lists are to be scanned
    failed: NDArray[np.int32]  # documents compared in vain a moment ago
    pending: NDArray[np.int64]  # [0]: stack entries of an insertion that waits for room
