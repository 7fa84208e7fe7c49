"""Which evaluation texts a training text holds: shared n-grams of words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.curation.evaluation_files import EvaluationFile, EvaluationItem

Gram = tuple[str, ...]
Rule = Literal["shared_ngram", "overlap", "whole_prompt"]

# Scripts that put no blanks between words: each character counts as a word.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W_])+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_APOSTROPHES = re.compile("['\u2019\u02bc`]")
_FEWEST_INSIDE = 5
"""A prompt of fewer words than this is only looked for as the whole of a training prompt."""


def words_of(text: str) -> list[str]:
    """The words of a text: letter case, punctuation and white space make no difference."""
    text = _APOSTROPHES.sub("", text)
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True, slots=True)
class Match:
    """An item that a training text holds, by which rule, and how much of it (0 to 1)."""

    file: int
    item: EvaluationItem
    rule: Rule
    share: float
    evidence: str


class EvaluationIndex:
    """The texts of evaluation files, to look for.

    `ngram` words shared with any text of an item make it a match (GPT-3, appendix C; 13 as in
    lm-eval), and so does a prompt of which more than `overlap` of the words lie in `overlap_ngram`s
    that the training text has (Tülu 3, section 3.2: 8 and 0.5). A prompt too short for both is a
    match where a training prompt is the same, or, from five words on, where any text holds it.
    """

    def __init__(
        self, files: Sequence[EvaluationFile], ngram: int, overlap_ngram: int, overlap: float
    ) -> None:
        self._ngram = ngram
        self._overlap_ngram = overlap_ngram
        self._overlap = overlap
        self._shortest = min(ngram, overlap_ngram)
        self._texts: list[tuple[int, EvaluationItem, int]] = []
        """File, item and length in words of each text."""
        self._places: dict[Gram, list[tuple[int, int]]] = {}
        """Where each `overlap_ngram` stands: text, first word."""
        self._grams: dict[Gram, list[int]] = {}
        self._screen: set[Gram] = set()
        self._whole: dict[Gram, list[int]] = {}
        for number, file in enumerate(files):
            for item in file.items:
                self._add(number, item)

    def _add(self, file: int, item: EvaluationItem) -> None:
        for text in (item.prompt, *item.others):
            words = words_of(text)
            number = len(self._texts)
            if len(words) >= self._shortest:
                self._texts.append((file, item, len(words)))
                # Tülu 3 compares prompts; short references, such as labels, are everywhere.
                if text is item.prompt:
                    for place, gram in enumerate(_grams(words, self._overlap_ngram)):
                        self._places.setdefault(gram, []).append((number, place))
                for gram in _grams(words, self._ngram):
                    self._grams.setdefault(gram, []).append(number)
                self._screen.update(_grams(words, self._shortest))
            elif words and text is item.prompt:
                self._texts.append((file, item, len(words)))
                self._whole.setdefault(tuple(words), []).append(number)

    def find(self, texts: Iterable[str], prompts: Iterable[str]) -> list[Match]:
        """The items that a training instance holds, each once, in the order of the files.

        Args:
            texts: all texts of the instance.
            prompts: those of them that ask, whole and in parts.
        """
        found: dict[tuple[int, int], Match] = {}
        words = [words_of(text) for text in texts]
        for match in (*self._shared(words), *self._short(words, prompts)):
            key = (match.file, match.item.number)
            if key not in found or match.share > found[key].share:
                found[key] = match
        return [found[key] for key in sorted(found)]

    def _shared(self, texts: Sequence[Sequence[str]]) -> Iterator[Match]:
        # Almost every text ends here.
        hits = [words for words in texts
                if not self._screen.isdisjoint(_grams(words, self._shortest))]  # fmt: skip
        if not hits:
            return
        covered: dict[int, set[int]] = {}
        for words in hits:
            for gram in set(_grams(words, self._overlap_ngram)):
                for text, place in self._places.get(gram, ()):
                    covered.setdefault(text, set()).update(
                        range(place, place + self._overlap_ngram)
                    )
        # In the order of the words, so that the evidence is the first shared n-gram.
        shared: dict[int, Gram] = {}
        for words in hits:
            for gram in _grams(words, self._ngram):
                for text in self._grams.get(gram, ()):
                    shared.setdefault(text, gram)
        for text in sorted({*covered, *shared}):
            file, item, length = self._texts[text]
            share = round(len(covered.get(text, ())) / length, 4)
            if text in shared:
                yield Match(file, item, "shared_ngram", share, " ".join(shared[text]))
            elif share > self._overlap:
                yield Match(file, item, "overlap", share, f"{share:.0%} of its words")

    def _short(self, texts: Sequence[Sequence[str]], prompts: Iterable[str]) -> Iterator[Match]:
        if not self._whole:
            return
        found = {tuple(words_of(prompt)) for prompt in prompts}
        for length in {len(gram) for gram in self._whole if len(gram) >= _FEWEST_INSIDE}:
            for words in texts:
                found.update(_grams(words, length))
        for gram in sorted(found & self._whole.keys()):
            for text in self._whole[gram]:
                file, item, _ = self._texts[text]
                yield Match(file, item, "whole_prompt", 1.0, " ".join(gram))


def _grams(words: Sequence[str], length: int) -> Iterator[Gram]:
    return zip(*(words[start:] for start in range(length)), strict=False)
