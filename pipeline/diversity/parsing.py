"""Parses texts in this process and reads them by a rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipeline.diversity.mended import read_mended
from pipeline.diversity.model import finisher, language
from pipeline.diversity.preparing import mark_sentences, prepare
from pipeline.diversity.published import read_published
from pipeline.diversity.records import UNPARSED, Method, VerbNoun
from pipeline.diversity.repairing import repair

if TYPE_CHECKING:
    from spacy.tokens import Doc

# Far beyond any instruction; spaCy's memory grows with the longest text.
_MOST_CHARACTERS = 20_000
_BATCH = 512


def parse_texts(texts: Sequence[str], method: Method) -> list[VerbNoun]:
    """Read texts in this process, in order."""
    if method == "published":
        return [read_published(doc) for doc in _docs(text[:_MOST_CHARACTERS] for text in texts)]
    docs = _marked_docs([prepare(text) for text in texts])
    # Of a text parsed a second time the second parse counts.
    again = {i: text for i, doc in enumerate(docs) if doc is not None and (text := repair(doc))}
    for i, doc in zip(again, _marked_docs(list(again.values())), strict=True):
        docs[i] = doc
    return [UNPARSED if doc is None else read_mended(doc) for doc in docs]


def _marked_docs(texts: Sequence[str]) -> list[Doc | None]:
    """Parses with the sentence starts of `mark_sentences`; None for an empty text."""
    docs = _docs(mark_sentences(language().make_doc(text)) for text in texts if text)
    return [next(docs) if text else None for text in texts]


def _docs(texts: Iterable[str | Doc]) -> Iterator[Doc]:
    return map(finisher().finish, language().pipe(texts, batch_size=_BATCH))
