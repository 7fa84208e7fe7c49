"""Compiled: the k documents with the highest scores, exactly, without comparing with all.

The LCS of two texts is at most the number of elements that they share. Posting lists by element
count what each document shares with the text, from the rarest element on. What is compared is
little: only documents whose count may still beat the k-th best score found. And the longest lists
are often left unread: with r elements to go, a document that shares none of those read scores at
most 2r / (m + r), and if the k-th best is above that, no new document can come in.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.novelty.comparing import lcs_with, load, unload
from pipeline.novelty.compiled import compiled, inlined, integer
from pipeline.novelty.state import DOCUMENTS, Documents, Scratch, Tree

_UNREAD = 4  # of a text's elements, the most frequent ones are looked at last
_MOST_COUNTED = 255
# The bound is a fraction, the score a float of the same fraction: they differ in the last bits.
_ROUNDING = 1e-9


class Postings(NamedTuple):
    """For each element the documents that have it; `ends` since a retracted one left its place."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    documents: NDArray[np.int32]


class Counting(NamedTuple):
    """Room for one text: what each document shares with it, and which share anything."""

    counts: NDArray[np.uint8]
    touched: NDArray[np.int32]


@compiled
def fill_postings(
    tree: Tree, documents: Documents, counters: Any, s: Scratch, ends: Any, postings: Any
) -> None:
    """Write the documents of each element from `ends` on, which moves to where they end."""
    for document in range(counters[DOCUMENTS]):
        start = documents.starts[document]
        tokens = documents.tokens[start : start + documents.counts[document]]
        load(s, documents, tree, counters, tokens, False)
        unload(s, tokens)
        for i in range(len(tokens)):
            element = s.elements[i]
            postings[ends[element]] = document
            ends[element] += 1


@compiled
def nearest(
    tree: Tree,
    documents: Documents,
    counters: Any,
    s: Scratch,
    tokens: Any,
    hidden: Any,
    postings: Postings,
    counting: Counting,
    entries: Any,
    scores: Any,
) -> int:
    """Write the entries and scores of the best documents, best first; return how many there are.

    Among equal scores the earlier document goes first. `hidden` has a 1 for each document that is
    not to be found; as many are found as `entries` has room for, or as there are. `counting` is
    zero before and after.
    """
    wanted = len(entries)
    if wanted == 0:
        return 0
    m = len(tokens)
    load(s, documents, tree, counters, tokens, False)
    first = max(0, m - _UNREAD)
    touched = _count(s, 0, first, postings, counting, 0)
    found = _best(documents, s, m, m - first, hidden, counting, touched, entries, scores)
    unread = m - first
    bound = 2.0 * unread / max(1, m + unread)
    if found < wanted or scores[found - 1] <= bound + _ROUNDING:
        touched = _count(s, first, m, postings, counting, touched)
        found = _best(documents, s, m, 0, hidden, counting, touched, entries, scores)
    # What shares nothing scores 0; it comes in only where there is not enough else.
    document = 0
    held = integer(counters[DOCUMENTS])
    while found < wanted and document < held:
        if counting.counts[document] == 0 and not hidden[document]:
            scores[found] = 0.0
            entries[found] = document
            found += 1
        document += 1
    for i in range(touched):
        counting.counts[counting.touched[i]] = 0
    unload(s, tokens)
    return found


@compiled
def _count(
    s: Scratch, begin: int, end: int, postings: Postings, counting: Counting, touched: int
) -> int:
    """Count the documents that have the text's elements from `begin` to `end`; return how many
    documents have been touched."""
    for i in range(begin, end):
        element = s.elements[i]
        # A token that no document has has a passing number.
        if element >= len(postings.ends):
            continue
        for place in range(postings.starts[element], postings.ends[element]):
            document = postings.documents[place]
            count = counting.counts[document]
            if count == 0:
                counting.touched[touched] = document
                touched += 1
            if count < _MOST_COUNTED:
                counting.counts[document] = count + 1
    return touched


@compiled
def _best(
    documents: Documents,
    s: Scratch,
    m: int,
    unread: int,
    hidden: Any,
    counting: Counting,
    touched: int,
    entries: Any,
    scores: Any,
) -> int:
    """Write the best of the touched documents; return how many. `unread` elements are uncounted."""
    wanted = len(entries)
    most = 0
    for i in range(touched):
        most = max(most, integer(counting.counts[counting.touched[i]]))
    found = 0
    # Those that share most go first, so that the others have something to beat.
    for part in range(2):
        for i in range(touched):
            document = integer(counting.touched[i])
            count = integer(counting.counts[document])
            if (count >= most - 1) != (part == 0) or hidden[document]:
                continue
            n = integer(documents.counts[document])
            shared = min(m, n) if count == _MOST_COUNTED else min(count + unread, m, n)
            bound = 2.0 * shared / (m + n)
            if found == wanted and bound + _ROUNDING < scores[found - 1]:
                continue
            score = _score(lcs_with(s, m, documents, document), m, n)
            if found == wanted:
                if not _beats(score, document, scores[found - 1], entries[found - 1]):
                    continue
            else:
                found += 1
            place = found - 1
            while place > 0 and _beats(score, document, scores[place - 1], entries[place - 1]):
                scores[place] = scores[place - 1]
                entries[place] = entries[place - 1]
                place -= 1
            scores[place] = score
            entries[place] = document
    return found


@inlined
def _score(lcs: int, m: int, n: int) -> float:
    """Return `rouge.f_measure`, in its order of floats."""
    if lcs == 0:
        return 0.0
    precision = lcs / n
    recall = lcs / m
    return 2 * precision * recall / (precision + recall)


@inlined
def _beats(score: float, document: int, other_score: float, other_document: int) -> bool:
    """Tell whether a document goes before another."""
    return score > other_score or (score == other_score and document < other_document)
