"""What the sentences of a parsed text ask for: its requests, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from pipeline.diversity import lexicon
from pipeline.diversity.model import known_verbs
from pipeline.diversity.objects import find_noun, has_object, noun_of
from pipeline.diversity.preparing import QUOTED
from pipeline.diversity.questions import opening_question, question_word

if TYPE_CHECKING:
    from spacy.tokens import Span, Token

# `asks` is a plain request; `duty` may be part of a story ('You are asked to bake a cake. But ...');
# `wish` and `scene` ask only if nothing else does.
Force: TypeAlias = Literal["asks", "duty", "wish", "scene", "question"]

_SUBJECTS = frozenset({"nsubj", "nsubjpass", "csubj", "expl"})
_CLAUSES = frozenset({"conj", "ccomp", "dep", "parataxis", "advcl", "appos"})
_BASE_FORMS = frozenset({"VB", "VBP"})


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked: by a verb with its noun, or by a question word."""

    force: Force
    verb: str
    noun: str | None
    sentence: int
    question_word: str | None = None


def find_requests(sentence: Span, number: int) -> list[Request]:
    """What one sentence asks for, in its order; empty for a statement or an example."""
    words = [token for token in sentence if not token.is_punct and not token.is_space]
    if not words or is_example(sentence):
        return []
    word = opening_question(sentence, words)
    if word:
        return [Request("question", "", None, number, word)]
    found = [request for verb in _clause_verbs(sentence.root) for request in _read(verb, number)]
    asks = [request for request in found if request.force in {"asks", "duty"}]
    if asks:
        return found
    word = question_word(sentence, words)
    if word:
        return [Request("question", "", None, number, word)]
    return found


def is_example(sentence: Span) -> bool:
    """Whether a sentence shows by example what was asked, and asks nothing."""
    opening = sentence.text.lstrip(' "(').lower()
    return opening.startswith(("for example", "for instance", "e.g.", "i.e.", "example"))


def _clause_verbs(root: Token) -> Iterator[Token]:
    """The heads of the sentence's main clauses, in the order of the text."""
    heads = [root]
    for head in heads:
        heads += [c for c in head.children if c.dep_ in _CLAUSES and not _is_bound(c, head)]
    heads += [t for t in root.subtree if _is_astray(t) and t not in heads]
    return iter(sorted(heads, key=lambda token: token.i))


def _is_astray(verb: Token) -> bool:
    """'Check if it is prime, and print it': coordinated with the wrong verb, as its form shows."""
    if verb.dep_ != "conj" or verb.tag_ != "VB" or _subject(verb) is not None or _aux(verb):
        return False
    if any(child.lower_ in {"me", "us"} for child in verb.children):
        return True
    head = verb.head
    finite = head.tag_ in {"VBZ", "VBD", "VBN"} or (head.tag_ == "VBP" and head.dep_ == "relcl")
    return finite and not any(word.tag_ == "MD" for word in _aux(head))


def _is_bound(clause: Token, head: Token) -> bool:
    """Whether a clause only belongs to another one: it is an object, a purpose, a condition."""
    if any(
        child.dep_ == "mark"
        or (child.dep_ == "aux" and child.lower_ == "to")
        or child.tag_ in {"WRB", "WP", "WDT"}
        for child in clause.children
    ):
        return True
    if clause.dep_ == "ccomp":
        return clause.i > head.i and _subject(clause) is not None
    if clause.dep_ == "advcl":
        return clause.tag_ not in _BASE_FORMS
    return False


def _subject(verb: Token) -> Token | None:
    for child in verb.children:
        # 'Using the table, find the sum': the parser may take the first clause for a subject.
        if child.dep_ in _SUBJECTS and child.i < verb.i:
            if not (child.dep_ == "csubj" and verb.tag_ == "VB"):
                return child
    return None


def _inherited_subject(verb: Token) -> Token | None:
    """Its own subject, or that of the verb it is coordinated with."""
    while True:
        subject = _subject(verb)
        if subject is not None or verb.dep_ != "conj":
            return subject
        verb = verb.head


def _aux(verb: Token) -> list[Token]:
    return [
        child for child in verb.children if child.dep_ in {"aux", "auxpass"} and child.i < verb.i
    ]


def _read(verb: Token, number: int) -> Iterator[Request]:
    force = _force(verb)
    if force is None:
        return
    action = _action(verb)
    if action is None or action.text == QUOTED:
        return
    lemma = _lemma(action)
    if force == "asks" and verb.dep_ != "conj":
        if lemma in lexicon.SCENE or (verb is action and _is_field_name(verb)):
            force = "scene"
    yield Request(force, lemma, _shared_noun(action), number)
    # 'You need to read the note and copy it': the verbs beside the action have no subject either.
    if action is not verb:
        for other in _coordinated(action):
            yield Request(force, _lemma(other), _shared_noun(other), number)


def _is_field_name(verb: Token) -> bool:
    """'Name: Ann' rather asks for nothing."""
    return verb.i == verb.sent.start and verb.i + 1 < len(verb.doc) and verb.nbor(1).text == ":"


def _coordinated(verb: Token) -> Iterator[Token]:
    for child in verb.children:
        if child.dep_ == "conj" and child.tag_ in _BASE_FORMS and _subject(child) is None:
            yield child
            yield from _coordinated(child)


def _force(verb: Token) -> Force | None:
    """How a clause asks; None if it does not."""
    if any(child.dep_ == "neg" for child in verb.children):
        return None
    aux = _aux(verb)
    modal = next((word for word in aux if word.tag_ == "MD"), None)
    subject = _subject(verb)
    if subject is None and _is_astray(verb):
        return "asks"
    if subject is None and verb.dep_ == "conj" and verb.head.i < verb.i:
        return _force_beside(verb, aux)
    if subject is None:
        return "asks" if _is_imperative(verb, aux) else None
    return _force_with(verb, subject, modal)


def _force_beside(verb: Token, aux: list[Token]) -> Force | None:
    """Of a verb beside another that has no subject of its own."""
    if not _is_imperative(verb, aux):
        return None
    head = verb.head
    force = _force(head)
    if force is not None or _inherited_subject(head) is None:
        return force or "asks"
    # 'There is a list, sort it' asks beside a statement; 'we take it and let it dry' does not.
    governed = any(word.tag_ == "MD" or word.lemma_ == "do" for word in _aux(head))
    return "asks" if verb.tag_ == "VB" and not governed and _may_state(head) else None


def _may_state(verb: Token) -> bool:
    """Whether a verb of another form beside this one cannot share its subject."""
    return verb.tag_ != "VBP" or verb.lemma_ == "be"


def _is_imperative(verb: Token, aux: list[Token]) -> bool:
    if any(word.lower_ not in {"do", "please"} for word in aux):
        return False
    if verb.tag_ in _BASE_FORMS:
        return True
    if verb.tag_ in {"VBD", "VBN"} and verb.lemma_ == verb.lower_ and not aux:
        return True  # shut, put, read, set
    return _opens_like_verb(verb)


def _opens_like_verb(token: Token) -> bool:
    """'List a few towns', 'output true': a verb by its place, tagged as something else."""
    if token.pos_ == "AUX" or token.tag_ in {"VBZ", "VBD", "VBG", "VBN"}:
        return False
    sentence = token.sent
    before = [
        word
        for word in sentence.doc[sentence.start : token.i]
        if not word.is_punct and not word.is_space
    ]
    if any(
        word.pos_ not in {"ADV", "INTJ", "CCONJ"} and word.lower_ != "please" for word in before
    ):
        return False
    return is_verb_form(token)


def is_verb_form(token: Token) -> bool:
    """Whether a word can be the base form of a verb (WordNet's list, in spaCy's lemmatizer)."""
    return token.lower_ in known_verbs()


def _force_with(verb: Token, subject: Token, modal: Token | None) -> Force | None:
    who = subject.lower_
    lemma = verb.lemma_.lower()
    if subject.dep_ == "nsubjpass":
        return _force_of_passive(verb, who, modal)
    if who == "you":
        if modal is not None and modal.i < subject.i:
            polite = modal.lower_ in lexicon.POLITE and not _is_wh_question(verb)
            return "asks" if polite and not _is_opinion(verb) else None
        if modal is not None:
            return "asks" if modal.lower_ in lexicon.MODALS_OF_REQUEST else None
        if lemma in lexicon.OBLIGES and _infinitive(verb) is not None and verb.tag_ != "VBD":
            return "duty"
        if lemma in lexicon.ASKED and _infinitive(verb) is not None:
            return "duty"
        return None
    if lemma in lexicon.WISHES and who in {"i", "we"}:
        if _wishes_of_you(verb):
            return "asks"
        return "wish" if _infinitive(verb) is not None and verb.tag_ != "VBD" else None
    if lemma in {"need", "have", "be"} and _is_passive(_infinitive(verb)) and verb.tag_ != "VBD":
        return "asks"
    if lemma == "be" and subject.lemma_.lower() in lexicon.TASKS and _infinitive(verb) is not None:
        return "asks"
    return None


def _force_of_passive(verb: Token, who: str, modal: Token | None) -> Force | None:
    if who == "you":
        asked = verb.lemma_.lower() in lexicon.ASKED and _infinitive(verb) is not None
        return "duty" if asked and modal is None else None
    if modal is not None and modal.lower_ in lexicon.MODALS_OF_DUTY:
        return "asks"
    return None


def _is_passive(verb: Token | None) -> bool:
    return verb is not None and any(child.dep_ == "auxpass" for child in verb.children)


def _is_wh_question(verb: Token) -> bool:
    return any(
        word.lower_ in lexicon.QUESTION_WORDS for word in verb.doc[verb.sent.start : verb.i][:4]
    )


def _is_opinion(verb: Token) -> bool:
    return verb.lemma_.lower() in lexicon.OPINIONS


def _infinitive(verb: Token) -> Token | None:
    """'need to VERB': the verb after to."""
    for child in verb.children:
        if child.dep_ in {"xcomp", "ccomp", "advcl"} and child.i > verb.i:
            if _has_to(child):
                return child
    # 'I need someone to VERB', read as someone for a purpose.
    for child in verb.children:
        if child.dep_ == "dobj" and child.lower_ in lexicon.ADDRESSED:
            return next((below for below in child.children if _has_to(below)), None)
    return None


def _has_to(verb: Token) -> bool:
    return any(word.lower_ == "to" and word.dep_ == "aux" for word in verb.children)


def _wishes_of_you(verb: Token) -> bool:
    """'I need you to VERB', 'we want someone to VERB'."""
    infinitive = _infinitive(verb)
    if infinitive is None:
        return False
    return any(word.lower_ in lexicon.ADDRESSED for word in verb.doc[verb.i + 1 : infinitive.i])


def _action(verb: Token) -> Token | None:
    """The verb of the action, behind the verbs that only lead to it."""
    action = verb
    if _only_leads(verb):
        found = _infinitive(verb)
        if found is None:
            return None
        action = found
    for _ in range(3):
        lemma = action.lemma_.lower()
        lets = lemma == "let" and any(c.lower_ in {"us", "'s"} for c in action.subtree)
        if lemma not in lexicon.LEAD_INS and not lets:
            break
        below = _led_to(action)
        if below is None:
            break
        action = below
    return action


def _only_leads(verb: Token) -> bool:
    """'You need to', 'I would like you to', 'your task is to': not what is asked."""
    subject = _subject(verb)
    if subject is None or (subject.dep_ == "nsubjpass" and subject.lower_ != "you"):
        return False
    modals = [word for word in _aux(verb) if word.tag_ == "MD"]
    return not modals or (subject.lower_ != "you" and verb.lemma_.lower() in lexicon.WISHES)


def _led_to(verb: Token) -> Token | None:
    found = _infinitive(verb)
    if found is not None:
        return found
    if verb.lemma_.lower() in {"help", "try", "let", "go"}:
        for child in verb.children:
            if (
                child.i > verb.i
                and child.dep_ in {"ccomp", "xcomp", "conj"}
                and child.tag_ in _BASE_FORMS
            ):
                return child
    return None


def _shared_noun(verb: Token) -> str | None:
    """The verb's noun; of 'wash and peel the pears' both verbs' is the pears."""
    if has_object(verb):
        return find_noun(verb)
    noun = find_noun(verb)
    subject = _subject(verb.head)
    if noun is None and _is_passive(verb) and _has_to(verb) and subject is not None:
        # 'The rows need to be counted.'
        return noun_of(subject, verb)
    if noun is not None:
        return noun
    following = next(
        (c for c in verb.children if c.dep_ == "conj" and c.i > verb.i and c.tag_ in _BASE_FORMS),
        None,
    )
    if following is not None and all(
        child.dep_ in {"cc", "conj", "punct", "advmod"}
        for child in verb.children
        if child.i > verb.i
    ):
        return find_noun(following)
    return None


def _lemma(verb: Token) -> str:
    lemma = verb.lemma_.lower() if verb.pos_ in {"VERB", "AUX"} else verb.lower_
    for child in verb.children:
        if child.i <= verb.i or child.i > verb.i + 6:
            continue
        if child.dep_ == "prt" and child.lower_ not in {"of", "for", "about"}:
            return f"{lemma}_{child.lower_}"
    following = verb.nbor(1).lower_ if verb.i + 1 < len(verb.doc) else ""
    if lemma in lexicon.PARTICLES.get(following, ()):
        return f"{lemma}_{following}"
    return lemma
