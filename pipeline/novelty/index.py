"""The novelty index: texts, numbering and locks around one of three ways to find blockers."""

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from threading import Lock
from typing import Any, Literal, Self

import numpy as np

from pipeline.errors import UsageError
from pipeline.novelty.buckets import BucketEngine
from pipeline.novelty.engine import Engine, Verdict
from pipeline.novelty.locks import ReadWriteLock
from pipeline.novelty.plain import PlainEngine
from pipeline.novelty.records import Admission, Neighbour
from pipeline.novelty.rouge import AtThreshold, Rule
from pipeline.novelty.tokenizers import Tokenizer, resolve_tokenizer

Implementation = Literal["auto", "tree", "fallback", "plain"]
IMPLEMENTATIONS: tuple[Implementation, ...] = ("auto", "tree", "fallback", "plain")

# A pool that would reach this gets the tree. Below it the implementation without a compiler is done
# before numba is imported (benchmarks/novelty.py).
TREE_FROM = 4096
# How many texts a writer judges before readers get their turn.
_CHUNK = 1024
# How many texts a reader looks at before writers get theirs.
_READ_AT_ONCE = 64


class NoveltyIndex:
    """A pool of texts that admits a text only if none of its texts is too similar to it.

    Similarity is ROUGE-L's F-measure (Lin 2004) with the tokenizer given, in `rouge_score`'s float
    arithmetic; a text is kept out when it reaches `threshold` (`at_threshold="reject"`) or exceeds
    it (`"admit"`). Decisions, blockers and scores are those of comparing with every entry, whatever
    the implementation. A text without tokens scores 0: it is admitted and never blocks.

    `implementation` "auto" starts with the fallback, which needs no compiler, and moves to the tree
    when the pool gets large, if numba works here; "tree", "fallback" and "plain" (the published
    filter word for word, slow) stay what they are.

    One thread may write (`add`, `admit`, `retract`) while others read; writers queue.

    Raises UsageError for a threshold outside (0, 1] or an unknown option.
    """

    def __init__(
        self,
        threshold: float = 0.7,
        at_threshold: AtThreshold = "reject",
        tokenizer: str | Tokenizer | Callable[[str], Iterable[Any]] = "rouge",
        *,
        implementation: Implementation = "auto",
    ) -> None:
        if implementation not in IMPLEMENTATIONS:
            raise UsageError(
                f"Unknown novelty implementation {implementation!r}: "
                f"give one of {', '.join(IMPLEMENTATIONS)}."
            )
        self._rule = Rule(float(threshold), at_threshold)
        self._tokenizer = resolve_tokenizer(tokenizer)
        self._implementation = implementation
        self._texts: list[str] = []
        self._retracted: set[int] = set()
        self._writer = Lock()
        self._gate = ReadWriteLock()
        self._engine: Engine = self._make_engine()

    @property
    def threshold(self) -> float:
        """The F-measure at which a text is kept out."""
        return self._rule.threshold

    @property
    def at_threshold(self) -> AtThreshold:
        """What happens to a score that equals the threshold."""
        return self._rule.at_threshold

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, with its name and version."""
        return self._tokenizer

    @property
    def untokenized(self) -> int:
        """How many texts given to `add` and `admit` have letters but no tokens.

        They are all admitted and never block; with the default tokenizer that is the fate of most
        texts in non-Latin scripts, and a reason to choose the multilingual one.
        """
        return self._engine.untokenized()

    def __len__(self) -> int:
        """Return the number of entries that can block or could if they had tokens."""
        return len(self._texts) - len(self._retracted)

    def text(self, entry: int) -> str:
        """Return the text of an entry, retracted or not. Raises KeyError for an unknown number."""
        self._require(entry)
        return self._texts[entry]

    def add(self, texts: Sequence[str]) -> list[int]:
        """Let texts join the pool without a check and return their entry numbers."""
        texts = _as_list(texts)
        with self._writer:
            first = len(self._texts)
            self._choose_engine(len(texts))
            # In one piece, so that the tree is built once and not rebuilt while it grows.
            with self._gate.write():
                self._engine.add(texts)
                self._texts.extend(texts)
            return list(range(first, len(self._texts)))

    def admit(self, texts: Sequence[str]) -> list[Admission]:
        """Judge texts in sequence; each that is admitted joins before the next is judged.

        How a stream of texts is cut into calls does not change a decision. Readers may see the pool
        between two texts of one call.
        """
        admissions: list[Admission] = []
        texts = _as_list(texts)
        with self._writer:
            self._choose_engine(len(texts))
            for start in range(0, len(texts), _CHUNK):
                chunk = texts[start : start + _CHUNK]
                with self._gate.write():
                    self._settle(chunk, self._engine.admit(chunk), admissions)
                # Readers go on while the writer puts the index in order.
                self._engine.maintain()
        return admissions

    def check(self, text: str) -> Admission:
        """Judge one text against the pool and change nothing."""
        with self._gate.read():
            blocker, score = self._engine.check(text)
            if blocker < 0:
                return Admission(True)
            return Admission(False, self._texts[blocker], score, blocker)

    def nearest(self, texts: Sequence[str], k: int) -> list[list[Neighbour]]:
        """Return for each text the k pool entries with the highest scores, best first.

        Exact; among equal scores the earlier entry goes first. Fewer than k come back only when the
        pool is smaller. The first call after the pool has grown makes posting lists of it.
        """
        if k < 0:
            raise UsageError(f"nearest: k must not be negative, got {k}.")
        neighbours: list[list[Neighbour]] = []
        texts = _as_list(texts)
        for start in range(0, len(texts), _READ_AT_ONCE):
            with self._gate.read():
                found = self._engine.nearest(
                    texts[start : start + _READ_AT_ONCE], k, self._retracted
                )
                neighbours += [
                    [Neighbour(entry, self._texts[entry], score) for entry, score in best]
                    for best in found
                ]
        return neighbours

    def mean_similarity(self, texts: Sequence[str]) -> list[float]:
        """Return each text's mean score over all entries of the pool (0.0 for an empty pool)."""
        means = []
        for text in _as_list(texts):
            with self._gate.read():
                scores = self._engine.scores(text)
                if self._retracted:
                    scores = np.delete(scores, list(self._retracted))
            means.append(float(np.mean(scores)) if len(scores) else 0.0)
        return means

    def retract(self, entry: int) -> None:
        """Let an entry stop blocking; its number is not given again.

        Raises KeyError for a number that was never given; retracting twice changes nothing.
        """
        with self._writer, self._gate.write():
            self._require(entry)
            self._engine.retract(entry)
            self._retracted.add(entry)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the pool and its settings to one file, replacing it atomically."""
        from pipeline.novelty.persistence import write_pool

        with self._writer:
            write_pool(path, self._rule, self._tokenizer, self._texts, sorted(self._retracted))

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        threshold: float = 0.7,
        at_threshold: AtThreshold = "reject",
        tokenizer: str | Tokenizer | Callable[[str], Iterable[Any]] = "rouge",
        *,
        implementation: Implementation = "auto",
    ) -> Self:
        """Make an index again from a file of `save`; entry numbers are kept.

        Raises UsageError when the file was saved with another threshold, rule, tokenizer or
        tokenizer version than asked for here, or is damaged.
        """
        from pipeline.novelty.persistence import read_pool

        index = cls(threshold, at_threshold, tokenizer, implementation=implementation)
        texts, retracted = read_pool(path, index._rule, index._tokenizer)
        index.add(texts)
        for entry in retracted:
            index.retract(entry)
        return index

    def _settle(
        self, texts: Sequence[str], verdicts: Sequence[Verdict], admissions: list[Admission]
    ) -> None:
        # One object a text is a tenth of all time; so nothing is looked up twice here.
        pool, entry = self._texts, len(self._texts)
        for text, (blocker, score) in zip(texts, verdicts, strict=True):
            if blocker >= 0:
                admissions.append(Admission(False, pool[blocker], score, blocker))
            else:
                pool.append(text)
                admissions.append(Admission(True, None, None, None, entry))
                entry += 1

    def _require(self, entry: int) -> None:
        if not 0 <= entry < len(self._texts):
            raise KeyError(f"the novelty index has no entry {entry}")

    def _make_engine(self) -> Engine:
        if self._implementation == "plain":
            return PlainEngine(self._rule, self._tokenizer)
        if self._implementation == "tree":
            return self._make_tree()
        return BucketEngine(self._rule, self._tokenizer)

    def _make_tree(self) -> Engine:
        # numba takes half a second to import, and a first run on a machine compiles.
        from pipeline.novelty.tree import TreeEngine

        return TreeEngine(self._rule, self._tokenizer)

    def _choose_engine(self, coming: int) -> None:
        """Move a pool that is about to get large to the tree."""
        if self._implementation != "auto" or not isinstance(self._engine, BucketEngine):
            return
        if len(self._texts) + coming < TREE_FROM:
            return
        try:
            tree = self._make_tree()
        except ImportError:
            # No numba for this machine: the fallback decides the same, only slower.
            self._implementation = "fallback"
            return
        tree.add(self._texts)
        for entry in self._retracted:
            tree.retract(entry)
        with self._gate.write():
            self._engine = tree


def warm_up() -> None:
    """Compile what the tree needs, or load it from numba's cache, before the first large pool.

    The first time on a machine it takes some ten seconds; a service calls it at start.
    """
    texts = [f"word{i} and word{i + 1} again and again" for i in range(TREE_FROM // 8)]
    for tokenizer in ("rouge", "multilingual"):
        index = NoveltyIndex(tokenizer=tokenizer, implementation="tree")
        index.add(texts)
        index.admit(texts)
        index.check(texts[0])
        index.mean_similarity(texts[:1])
        index.nearest(texts[:1], 1)


def _as_list(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("give a list of texts, not one text")
    return list(texts)
