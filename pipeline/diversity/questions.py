"""Questions: whether a sentence asks for an answer, and by which word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.diversity import lexicon

if TYPE_CHECKING:
    from spacy.tokens import Span, Token


def opening_question(sentence: Span, words: list[Token]) -> str | None:
    """Of a marked sentence that opens as only a question does, whatever its parse is."""
    if len(words) < 2:
        return None
    first, second = words[0], words[1]
    if not any(token.text == "?" for token in sentence[-3:]):
        return "yes_no" if first.lower_ in {"is", "are", "was", "were", "does", "did"} else None
    if first.lower_ in lexicon.QUESTION_WORDS:
        return (
            _sense(first) if first.lower_ not in {"when", "where"} or second.pos_ == "AUX" else None
        )
    if first.lower_ in lexicon.ASKING and not (
        first.lower_ in lexicon.POLITE and second.lower_ == "you"
    ):
        return "yes_no"
    return None


def question_word(sentence: Span, words: list[Token]) -> str | None:
    """The question word of a sentence that asks for an answer; `yes_no` where it has none."""
    marked = any(token.text == "?" for token in sentence[-3:])
    opening = [word for word in words if word.lower_ not in {"so", "and", "but", "then", "now"}][:4]
    if not opening:
        return None
    for place, word in enumerate(opening):
        if word.lower_ in lexicon.QUESTION_WORDS and (
            marked or place == 0 or words[place - 1].pos_ == "ADP"
        ):
            if not marked and not _asks_without_mark(word, sentence):
                return None
            return _sense(word)
    if not marked:
        return None
    if opening[0].pos_ == "AUX" or opening[0].lower_ in {"do", "does", "did"}:
        return "yes_no"
    for word in words:
        if word.lower_ in lexicon.QUESTION_WORDS and word.dep_ != "mark" and not _is_relative(word):
            return _sense(word)
    return "yes_no"


def _sense(word: Token) -> str:
    if word.lower_ == "what" or word.lower_ not in lexicon.QUESTION_WORDS:
        return "what"
    return lexicon.QUESTION_WORDS[word.lower_]


def _is_relative(word: Token) -> bool:
    clause = word.head if word.dep_ != "det" else word.head.head
    return clause.dep_ in {"relcl", "acl"}


def _asks_without_mark(word: Token, sentence: Span) -> bool:
    """'What are the best sites' asks; 'When it rains we stay' does not."""
    if word.lower_ not in {"when", "where"}:
        return True
    following = sentence.doc[word.i + 1 : word.i + 2]
    return bool(following) and following[0].pos_ == "AUX"
