"""The noun of a verb: the head of its object, or what a pronoun in its place refers to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.diversity import lexicon
from pipeline.diversity.preparing import QUOTED

if TYPE_CHECKING:
    from spacy.tokens import Token

_OBJECTS = frozenset({"dobj", "dative", "obj", "oprd"})
_NOUNS = frozenset({"NOUN", "PROPN"})


def find_noun(verb: Token) -> str | None:
    """The lemma of the noun a verb asks something to be done to; None if there is none."""
    for candidate in _candidates(verb):
        if candidate.lower_ in lexicon.TO_PERSONS or _opens_clause(verb, candidate):
            continue
        return noun_of(candidate, verb)
    return None


def has_object(verb: Token) -> bool:
    """Whether a verb has an object of its own, noun or clause; a person told is none."""
    if any(child.dep_ in {"ccomp", "xcomp"} and child.i > verb.i for child in verb.children):
        return True
    return any(candidate.lower_ not in lexicon.TO_PERSONS for candidate in _candidates(verb))


def _candidates(verb: Token) -> Iterator[Token]:
    objects = [c for c in verb.children if c.i > verb.i and c.dep_ in _OBJECTS and c.pos_ != "ADP"]
    # 'Assign each word a label': the label.
    yield from sorted(objects, key=lambda child: child.dep_ == "dative")
    for child in verb.children:
        if child.dep_ == "nsubjpass":
            yield child
        elif _changes(verb, child):
            yield from (c for c in child.children if c.dep_ == "nsubj" and verb.i < c.i < child.i)
        elif child.dep_ == "prep" and _invents(verb, child):
            yield from (below for below in child.children if below.dep_ == "pobj")


def _changes(verb: Token, result: Token) -> bool:
    """'make the text longer', 'make it rhyme', 'paint it red'."""
    if result.dep_ == "advmod":
        return result.tag_ == "RBR"
    return result.dep_ == "ccomp" and (
        result.pos_ in {"ADJ", "ADV"} or verb.lemma_ in {"make", "let"}
    )


def _opens_clause(verb: Token, noun: Token) -> bool:
    """'Explain why ice floats' has no noun, also where the parser finds one in the clause."""
    between = verb.doc[verb.i + 1 : noun.i + 1]
    return any(
        word.tag_ in {"WRB", "WP", "WDT"} or word.lower_ in {"whether", "if"} for word in between
    )


def _invents(verb: Token, preposition: Token) -> bool:
    """'come up with a name', 'think of a name'; also 'fill in the form', read as a preposition."""
    lemma = verb.lemma_.lower()
    if preposition.lower_ == "with":
        return lemma == "come"
    if preposition.lower_ == "of":
        return lemma == "think"
    return preposition.i == verb.i + 1 and lemma in lexicon.PARTICLES.get(preposition.lower_, ())


def noun_of(head: Token, verb: Token) -> str | None:
    word = head.lower_
    if word in lexicon.QUANTITIES or head.tag_ == "CD":
        for child in head.children:
            if child.lower_ == "of":
                for below in child.children:
                    if below.dep_ == "pobj":
                        return noun_of(below, verb)
    if head.text == QUOTED or _is_quoted(head):
        return None
    if word in lexicon.PRONOUNS:
        return _refers_to(head, verb)
    if word in lexicon.EMPTY or head.pos_ not in _NOUNS:
        return None
    return lemma_of(head)


def lemma_of(noun: Token) -> str:
    """The lemma in lower case; a name keeps its form."""
    return noun.lemma_.lower()


def _is_quoted(token: Token) -> bool:
    """Whether the word itself is meant: it stands alone in quotation marks."""
    before = token.nbor(-1).text if token.i else ""
    after = token.nbor(1).text if token.i + 1 < len(token.doc) else ""
    return before in {'"', "'"} and after in {'"', "'"}


def _refers_to(pronoun: Token, verb: Token) -> str | None:
    """The nearest noun before the verb that stands where what is spoken of stands.

    What is given, had, or asked for earlier is spoken of; what only qualifies it comes second.
    """
    plural = pronoun.lower_ not in {"it", "this", "that"}
    members = pronoun.lower_ in lexicon.MEMBERS_ONLY
    second: str | None = None
    for token in reversed(verb.doc[: verb.i]):
        if token.pos_ not in _NOUNS or token.dep_ == "compound" or token.text == QUOTED:
            continue
        if token.lower_ in lexicon.EMPTY or token.lower_ in lexicon.QUANTITIES:
            continue
        if token.lower_ in lexicon.TASKS:  # 'Here is a sentence. Your job is to translate it.'
            continue
        is_plural = token.tag_ in {"NNS", "NNPS"} or any(c.dep_ == "conj" for c in token.children)
        if is_plural != plural:
            continue
        if _is_spoken_of(token) or (plural and _is_member(token)):
            return lemma_of(token)
        second = second or lemma_of(token)
    if second is None and plural and not members:
        return _refers_to_anything(verb)
    return second


def _refers_to_anything(verb: Token) -> str | None:
    for token in reversed(verb.doc[: verb.i]):
        if token.pos_ in _NOUNS and _is_spoken_of(token):
            return lemma_of(token)
    return None


def _is_member(token: Token) -> bool:
    """'a list of numbers': the numbers."""
    return (
        token.dep_ == "pobj"
        and token.head.lower_ == "of"
        and token.head.head.pos_ in _NOUNS
        and _is_spoken_of(token.head.head)
    )


def _is_spoken_of(token: Token) -> bool:
    if token.dep_ in {"dobj", "attr", "nsubj", "nsubjpass", "dative", "ROOT"}:
        return True
    return token.dep_ == "pobj" and token.head.lower_ in {"given", "with", "for"} | lexicon.GIVING
