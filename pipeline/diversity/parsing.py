"""Parses texts in this process and reads them by the rules."""

from __future__ import annotations

import re
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
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_texts(texts: Sequence[str], methods: Sequence[Method]) -> list[list[VerbNoun]]:
    """Read texts in this process by each of the methods; one list a method, each in order.

    For both rules most texts are parsed once: all that `prepare` left as they were and that
    `mark_sentences` found to be one sentence.
    """
    # spaCy takes no lone surrogate, which JSON may hold.
    texts = [_SURROGATE.sub("\ufffd", text[:_MOST_CHARACTERS]) for text in texts]
    answers: dict[Method, list[VerbNoun]] = {}
    shared: dict[int, VerbNoun] = {}
    if "mended" in methods:
        prepared = [prepare(text) for text in texts]
        docs, marked = _parse_marked(prepared)
        if "published" in methods:
            for i, doc in enumerate(docs):
                if doc is not None and not marked[i] and prepared[i] == texts[i]:
                    shared[i] = read_published(doc)
        # Of a text parsed a second time the second parse counts.
        again = {i: text for i, doc in enumerate(docs) if doc is not None and (text := repair(doc))}
        for i, doc in zip(again, _parse_marked(list(again.values()))[0], strict=True):
            docs[i] = doc
        answers["mended"] = [UNPARSED if doc is None else read_mended(doc) for doc in docs]
    if "published" in methods:
        parsed = _docs(text for i, text in enumerate(texts) if i not in shared)
        answers["published"] = [
            shared[i] if i in shared else read_published(next(parsed)) for i in range(len(texts))
        ]
    return [answers[method] for method in methods]


def _parse_marked(texts: Sequence[str]) -> tuple[list[Doc | None], list[bool]]:
    """Parses with the sentence starts of `mark_sentences`, None for an empty text; and of which
    texts it marked any."""
    made = [language().make_doc(text) if text else None for text in texts]
    marked = [doc is not None and mark_sentences(doc) for doc in made]
    docs = _docs(doc for doc in made if doc is not None)
    return [None if doc is None else next(docs) for doc in made], marked


def _docs(texts: Iterable[str | Doc]) -> Iterator[Doc]:
    return map(finisher().finish, language().pipe(texts, batch_size=_BATCH))
