"""Helps the parser over requests that it took for nouns.

The small model reads 'Group these stamps' and 'Output "yes"' as nouns. With 'you should' before it
the same word is a verb to it, so such a text is parsed a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.diversity import lexicon
from pipeline.diversity.clauses import is_example, is_verb_form

if TYPE_CHECKING:
    from spacy.tokens import Doc, Span, Token

_NO_VERBS = frozenset({"ADP", "SCONJ", "DET", "PRON", "AUX", "NUM", "PART"})
_CONTEXTS = frozenset({"given", "using", "based", "from", "in", "for", "with", "if", "after"})


def repair(doc: Doc) -> str | None:
    """The text with 'you should' before each verb taken for a noun; None where there is none."""
    spots = [spot for sentence in doc.sents for spot in [_misread(sentence)] if spot is not None]
    if not spots:
        return None
    text, pieces, done = doc.text, [], 0
    for spot in spots:
        pieces += [text[done : spot.idx], "you should ", spot.lower_]
        done = spot.idx + len(spot)
    return "".join([*pieces, text[done:]])


def _misread(sentence: Span) -> Token | None:
    """The verb a sentence opens with, also behind a leading context, if it was read as no verb."""
    words = [token for token in sentence if not token.is_space]
    if is_example(sentence) or any(word.text == "?" for word in words[-2:]):
        return None
    place = 0
    while place < len(words) - 1 and (
        words[place].lower_
        in {"please", "then", "and", "also", "finally", "next", ",", "first", "now"}
    ):
        place += 1
    if place == 0 and words and words[0].lower_ in _CONTEXTS:
        commas = [i for i, word in enumerate(words) if word.text == ","]
        if not commas:
            return None
        place = commas[0] + 1
    if place + 1 >= len(words):
        return None
    word, following = words[place], words[place + 1]
    if word.tag_ in {"VB", "VBP", "MD"} or word.pos_ in _NO_VERBS or not is_verb_form(word):
        return None
    if word.dep_ in {"nsubj", "nsubjpass", "csubj"} or word.lower_ in lexicon.QUESTION_WORDS:
        return None
    opens_object = following.pos_ in {"DET", "NUM", "PRON"} or following.text in {'"', "'"}
    bare = following.pos_ in {"NOUN", "PROPN", "ADJ"} and word.lower_ in lexicon.INSTRUCTIONS
    return word if opens_object or bare else None
