"""The prefix tree as an engine: arrays that grow, token numbers, and when to rebuild."""

from collections.abc import Sequence, Set
from threading import local
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.novelty.comparing import TABLED, tabulate
from pipeline.novelty.engine import NOVEL, Verdict
from pipeline.novelty.growing import rehash, rehash_copies
from pipeline.novelty.nearest import Counting, Postings, fill_postings, nearest
from pipeline.novelty.rouge import Rule, f_measure
from pipeline.novelty.searching import ADD, ADMIT, CHECK, ENTER, KEEP, lcs_with_all, process
from pipeline.novelty.state import (
    COPIES,
    COUNTERS,
    DOCUMENTS,
    ELEMENTS,
    FULL,
    FULL_ELEMENTS,
    FULL_POSTINGS,
    FULL_TABLE,
    IDS,
    INDEXED,
    NODES,
    POSTINGS,
    RANKED,
    TOKENS,
    Documents,
    Limits,
    Scratch,
    Tree,
)
from pipeline.novelty.tokenizers import Tokenizer, has_letters
from pipeline.novelty.vocabulary import Numbered, vocabulary_for

SPLIT = 256
# The order of elements is made anew, from true frequencies, when the pool has grown so many times.
_REBUILD = 5
_FIRST_REBUILD = 256
_LISTS = 1 << 14
_FAILED = 64


class _State(NamedTuple):
    tree: Tree
    documents: Documents
    counters: NDArray[np.int64]


class TreeEngine:
    """The compiled implementation; see `growing.py` for the tree and `searching.py` for its use.

    `split` and `patience` are for tests: a tree with tiny lists that is never given up shows a
    fault at once that hides behind long lists and pool scans.
    """

    def __init__(
        self, rule: Rule, tokenizer: Tokenizer, *, split: int = SPLIT, patience: int = 1
    ) -> None:
        self._rule = rule
        self._limits = Limits(
            np.zeros((TABLED, TABLED), dtype=np.int32),
            np.zeros(TABLED, dtype=np.int32),
            rule.threshold,
            rule.at_threshold == "admit",
            split,
            patience,
        )
        tabulate(self._limits)
        self._vocabulary = vocabulary_for(tokenizer)
        self._untokenized = 0
        self._state = _State(_new_tree(64), _new_documents(), np.zeros(COUNTERS, dtype=np.int64))
        self._rebuild_at = _FIRST_REBUILD
        self._own = _new_scratch(64, 1024)
        self._threads = local()
        self._kept_postings: tuple[int, Postings] | None = None

    def add(self, texts: Sequence[str]) -> None:
        tokens, starts = self._number(texts)
        held = int(self._state.counters[DOCUMENTS])
        if held + len(texts) >= self._rebuild_at:
            # Entering them now would be undone by the rebuild that is due.
            self._make_room(tokens, starts)
            none = np.empty(0, dtype=np.int64)
            process(*self._arguments(), self._own, KEEP, tokens, starts, 0, none, none)
            self._rebuild()
        else:
            self._run(tokens, starts, ADD)

    def admit(self, texts: Sequence[str]) -> list[Verdict]:
        tokens, starts = self._number(texts)
        blockers, lengths = self._run(tokens, starts, ADMIT)
        return self._verdicts(blockers, lengths, np.diff(starts))

    def check(self, text: str) -> Verdict:
        tokens = self._look_up(text)
        starts = np.array([0, len(tokens)], dtype=np.int64)
        found = np.empty(2, dtype=np.int64)
        scratch = self._scratch(len(tokens))
        process(*self._arguments(), scratch, CHECK, tokens, starts, 0, found[:1], found[1:])
        blocker, lcs = found.tolist()
        if blocker < 0:
            return NOVEL
        return blocker, f_measure(lcs, len(tokens), int(self._state.documents.counts[blocker]))

    def scores(self, text: str) -> NDArray[np.float64]:
        tokens = self._look_up(text)
        tree, documents, counters = self._state
        held = int(counters[DOCUMENTS])
        lengths = np.empty(held, dtype=np.int64)
        lcs_with_all(tree, documents, counters, self._scratch(len(tokens)), tokens, lengths)
        counts = documents.counts[:held]
        # The floats of `f_measure`, for all entries at once.
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = lengths / counts
            recall = lengths / max(1, len(tokens))
            scores: NDArray[np.float64] = 2 * precision * recall / (precision + recall)
        scores[lengths == 0] = 0.0
        return scores

    def nearest(self, texts: Sequence[str], k: int, hidden: Set[int]) -> list[list[Verdict]]:
        tree, documents, counters = self._state
        held = int(counters[DOCUMENTS])
        is_hidden = np.zeros(held, dtype=np.bool_)
        is_hidden[list(hidden)] = True
        postings = self._postings()
        counting = Counting(np.zeros(held, dtype=np.uint8), np.empty(held, dtype=np.int32))
        entries = np.empty(min(k, held), dtype=np.int64)
        scores = np.empty(min(k, held), dtype=np.float64)
        neighbours = []
        for text in texts:
            tokens = self._look_up(text)
            scratch = self._scratch(len(tokens))
            room = (is_hidden, postings, counting, entries, scores)
            found = nearest(tree, documents, counters, scratch, tokens, *room)
            best = zip(entries[:found].tolist(), scores[:found].tolist(), strict=True)
            neighbours.append(list(best))
        return neighbours

    def _postings(self) -> Postings:
        """Return the posting lists of all elements; made again when documents have joined."""
        tree, documents, counters = self._state
        held, ids = int(counters[DOCUMENTS]), int(counters[IDS])
        if self._kept_postings is None or self._kept_postings[0] != held:
            starts = np.zeros(ids + 1, dtype=np.int64)
            np.cumsum(documents.frequencies[:ids], out=starts[1:])
            ends = starts[:-1].copy()
            into = np.empty(int(starts[-1]), dtype=np.int32)
            longest = int(documents.counts[:held].max(initial=0))
            fill_postings(tree, documents, counters, self._scratch(longest), ends, into)
            self._kept_postings = held, Postings(starts, ends, into)
        return self._kept_postings[1]

    def retract(self, entry: int) -> None:
        # Zero tokens never fire; the postings go with the next rebuild.
        self._state.documents.counts[entry] = 0

    def untokenized(self) -> int:
        return self._untokenized

    def maintain(self) -> None:
        """Rebuild if the pool has outgrown its order of elements; readers may go on meanwhile."""
        if int(self._state.counters[DOCUMENTS]) >= self._rebuild_at:
            self._rebuild()

    def memory(self) -> int:
        """Return the bytes of the arrays as allocated; pages never written cost nothing."""
        tree, documents, _ = self._state
        arrays: list[NDArray[Any]] = [*tree, *documents]
        return sum(array.nbytes for array in arrays)

    def _run(
        self, tokens: NDArray[np.int32], starts: NDArray[np.int64], mode: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        self._make_room(tokens, starts)
        texts = len(starts) - 1
        blockers = np.empty(texts, dtype=np.int64)
        lengths = np.empty(texts, dtype=np.int64)
        at = 0
        while at < texts or self._state.counters[INDEXED] < self._state.counters[DOCUMENTS]:
            at = process(*self._arguments(), self._own, mode, tokens, starts, at, blockers, lengths)
            self._enlarge_tree()
        return blockers, lengths

    def _verdicts(
        self, blockers: NDArray[np.int64], lengths: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> list[Verdict]:
        verdicts: list[Verdict] = [NOVEL] * len(blockers)
        rejected = np.flatnonzero(blockers >= 0)
        entries = blockers[rejected]
        others = self._state.documents.counts[entries]
        for i, entry, lcs, m, n in zip(
            rejected.tolist(),
            entries.tolist(),
            lengths[rejected].tolist(),
            counts[rejected].tolist(),
            others.tolist(),
            strict=True,
        ):
            verdicts[i] = entry, f_measure(lcs, m, n)
        return verdicts

    def _number(self, texts: Sequence[str]) -> Numbered:
        tokens, starts = self._vocabulary.number(texts, self._state.counters)
        for empty in np.flatnonzero(starts[1:] == starts[:-1]).tolist():
            self._untokenized += has_letters(texts[empty])
        return tokens, starts

    def _look_up(self, text: str) -> NDArray[np.int32]:
        return self._vocabulary.look_up(text, self._state.counters)

    def _arguments(self) -> tuple[Tree, Documents, Limits, NDArray[np.int64]]:
        tree, documents, counters = self._state
        return tree, documents, self._limits, counters

    def _scratch(self, tokens: int) -> Scratch:
        """Return this thread's scratch, large enough for a text of so many tokens."""
        # Unknown tokens have passing numbers above the known ones.
        numbers = int(self._state.counters[IDS]) + tokens
        scratch: Scratch | None = getattr(self._threads, "scratch", None)
        if scratch is None or len(scratch.elements) < tokens or len(scratch.direct) < numbers:
            scratch = _new_scratch(max(64, 2 * tokens), 2 * numbers)
            self._threads.scratch = scratch
        return scratch

    def _make_room(self, tokens: NDArray[np.int32], starts: NDArray[np.int64]) -> None:
        """Make the documents' arrays large enough for these texts, should all of them join."""
        tree, documents, counters = self._state
        held = int(counters[DOCUMENTS]) + len(starts)
        numbers = int(counters[IDS]) + len(tokens)
        copies = documents.copies
        while len(copies) < 4 * (int(counters[COPIES]) + len(tokens)):
            larger = np.zeros(2 * len(copies), dtype=np.uint64)
            rehash_copies(copies, larger)
            copies = larger
        documents = Documents(
            _longer(documents.tokens, int(counters[TOKENS]) + len(tokens)),
            _longer(documents.starts, held),
            _longer(documents.counts, held),
            _longer(documents.words, held),
            _longer(documents.frequencies, numbers),
            copies,
        )
        tree = tree._replace(element_starts=_longer(tree.element_starts, held + 1))
        self._state = _State(tree, documents, counters)
        longest = int(np.diff(starts).max(initial=0))
        if longest > len(self._own.elements):
            self._own = _new_scratch(2 * longest, numbers)
        self._own = self._own._replace(direct=_longer(self._own.direct, numbers))

    def _enlarge_tree(self) -> None:
        """Replace those of the tree's arrays that are nearly full, if something had to wait."""
        tree, documents, counters = self._state
        if counters[FULL]:
            self._state = _State(_enlarged(tree, counters), documents, counters)
            counters[FULL] = 0

    def _rebuild(self) -> None:
        """Make the tree anew in the order of true frequencies, rarest first.

        It is built beside the one in use, whose arrays are not touched, and then takes its place.
        """
        old, documents, counters = self._state
        counters = counters.copy()
        held, ids = int(counters[DOCUMENTS]), int(counters[IDS])
        ranks = np.empty(ids, dtype=np.int64)
        ranks[np.argsort(documents.frequencies[:ids], kind="stable")] = np.arange(ids)
        fresh = _new_tree(max(64, held))
        tree = fresh._replace(
            ranks=ranks, element_starts=np.zeros(len(old.element_starts), dtype=np.int64)
        )
        counters[[ELEMENTS, POSTINGS, NODES, FULL, INDEXED]] = 0
        counters[RANKED] = ids
        longest = int(documents.counts[:held].max(initial=0))
        scratch = _new_scratch(max(64, longest), ids)
        none = np.empty(0, dtype=np.int64)
        no_tokens = np.empty(0, dtype=np.int32)
        while counters[INDEXED] < held:
            state = tree, documents, self._limits, counters, scratch
            process(*state, ENTER, no_tokens, none, 0, none, none)
            tree = _enlarged(tree, counters) if counters[FULL] else tree
            counters[FULL] = 0
        self._state = _State(tree, documents, counters)
        self._rebuild_at = max(_FIRST_REBUILD, _REBUILD * held)


def _longer(array: NDArray[Any], needed: int) -> NDArray[Any]:
    """Return the array, or a copy with room for at least `needed` items; new items are zero."""
    if len(array) >= needed:
        return array
    larger = np.zeros(max(needed, len(array) + len(array) // 2), dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def _enlarged(tree: Tree, counters: NDArray[np.int64]) -> Tree:
    """Return the tree with larger ones of those arrays that something had to wait for."""
    full = int(counters[FULL])
    if full & FULL_TABLE:
        table = np.zeros(2 * len(tree.table), dtype=np.uint64)
        rehash(tree.table, table)
        tree = tree._replace(table=table)
    if full & FULL_POSTINGS:
        words = _longer(tree.words, len(tree.words) + 1)
        tree = tree._replace(words=words, documents=_longer(tree.documents, len(words)))
    if full & FULL_ELEMENTS:
        tree = tree._replace(elements=_longer(tree.elements, len(tree.elements) + 1))
    return tree


def _new_tree(documents: int) -> Tree:
    """Return an empty tree with room for about so many documents."""
    slots = 1 << (4 * documents).bit_length()
    return Tree(
        np.zeros(4 * slots, dtype=np.uint64),
        np.zeros(8 * documents, dtype=np.uint64),
        np.zeros(8 * documents, dtype=np.int32),
        np.full(64, -1, dtype=np.int64),
        np.zeros(8 * documents, dtype=np.int32),
        np.zeros(2, dtype=np.int64),
        np.zeros(0, dtype=np.int64),
    )


def _new_documents() -> Documents:
    return Documents(
        np.zeros(1024, dtype=np.int32),
        np.zeros(64, dtype=np.int64),
        np.zeros(64, dtype=np.int32),
        np.zeros(64, dtype=np.uint64),
        np.zeros(1024, dtype=np.int32),
        np.zeros(256, dtype=np.uint64),
    )


def _new_scratch(tokens: int, numbers: int) -> Scratch:
    """Return room for texts of up to so many tokens, with token numbers below `numbers`."""
    words = (tokens + 63) // 64
    return Scratch(
        np.zeros(numbers, dtype=np.uint64),
        np.zeros(tokens, dtype=np.int32),
        np.empty(tokens * words, dtype=np.uint64),
        np.zeros(tokens, dtype=np.int64),
        np.zeros(tokens, dtype=np.int32),
        np.zeros(words, dtype=np.uint64),
        np.zeros(8 * (tokens + 4), dtype=np.uint64),
        np.zeros(_LISTS, dtype=np.int64),
        np.full(_FAILED, -1, dtype=np.int32),
        np.full(1, -1, dtype=np.int64),
    )
