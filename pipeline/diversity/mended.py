"""The mended rule: what a whole prompt asks for, from what its sentences ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.diversity import lexicon
from pipeline.diversity.clauses import Request, find_requests, is_example
from pipeline.diversity.model import known_words
from pipeline.diversity.records import UNPARSED, VerbNoun

if TYPE_CHECKING:
    from spacy.tokens import Doc

# Of a text that is English, so many words are known to its dictionary.
KNOWN_SHARE = 0.5


def read_mended(doc: Doc) -> VerbNoun:
    """What a prepared and parsed instruction asks for, by the mended rule.

    Args:
        doc: the text as `preparing.prepare` left it, with the sentence starts of `mark_sentences`.
    """
    if not _is_english(doc):
        return UNPARSED
    requests: list[Request] = []
    material = example = False
    for number, sentence in enumerate(doc.sents):
        if material or example:
            # After 'Sort the following:' comes what is to be sorted, to the end of the line.
            material, example = material and "\n" not in sentence.text, False
            continue
        found = find_requests(sentence, number)
        requests += found
        opens = sentence.text.rstrip(' "\n').endswith(":")
        asks = any(request.force != "scene" for request in found)
        material, example = opens and asks, opens and is_example(sentence)
    return decide(requests)


def decide(requests: Sequence[Request]) -> VerbNoun:
    """What counts of the requests of a text, given in order."""
    asked = [r for r in requests if r.force != "question"]
    plain = [r for r in requests if r.force in {"asks", "duty", "question"}]
    if plain and plain[0].force == "duty":
        rest = [r for r in plain if r.force != "duty"]
        # A sentence between tells a story: what is asked comes after it.
        if rest and rest[0].sentence > plain[0].sentence + 1:
            plain = rest
    if not plain:
        plain = [r for r in asked if r.force == "wish"] or asked
    if not plain:
        return UNPARSED
    first = plain[0]
    if first.force == "question":
        making = [r for r in plain if r.force == "asks" and r.verb in lexicon.MAKING]
        if not making:
            return VerbNoun("question", question_word=first.question_word)
        first = making[0]
    further: dict[tuple[str, str | None], None] = {}
    for request in plain:
        pair = (request.verb, request.noun)
        if request.force != "question" and pair != (first.verb, first.noun):
            further[pair] = None
    return VerbNoun("imperative", first.verb, first.noun, tuple(further))


def _is_english(doc: Doc) -> bool:
    words = [token for token in doc if token.is_alpha]
    if not words:
        return False
    known = sum(1 for token in words if token.is_stop or token.lemma_.lower() in known_words())
    return known >= KNOWN_SHARE * len(words)
