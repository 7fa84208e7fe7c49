"""The rule of the Self-Instruct paper, as its notebook `instruction_visualize.ipynb` has it.

Only the first sentence counts. The walk starts at its root and stops at the first token that is a
verb; from any other it goes on to the *first* child only, whatever that is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.diversity.records import UNPARSED, VerbNoun

if TYPE_CHECKING:
    from spacy.tokens import Doc


def read_published(doc: Doc) -> VerbNoun:
    """Verb and direct object of the first sentence, by the published rule.

    Args:
        doc: the whole instruction, parsed.

    Returns:
        An imperative with verb and noun; with the verb alone where the published rule drops the row
        for want of a noun; unparsed where it finds no verb.
    """
    sentence = next(iter(doc.sents), None)
    if sentence is None:
        return UNPARSED
    token = sentence.root
    while token.pos_ != "VERB":
        first = next(token.children, None)
        if first is None:
            return UNPARSED
        token = first
    for child in token.children:
        if child.dep_ == "dobj" and child.pos_ == "NOUN":
            return VerbNoun("imperative", token.lemma_, child.lemma_)
    return VerbNoun("imperative", token.lemma_)
