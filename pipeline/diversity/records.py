"""What is found out about an instruction: what it asks to be done, and to what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

Kind: TypeAlias = Literal["imperative", "question", "unparsed"]
Method: TypeAlias = Literal["mended", "published"]


@dataclass(frozen=True, slots=True)
class VerbNoun:
    """What one instruction asks for.

    `kind` is `imperative` (something is asked to be done), `question` (an answer is asked for) or
    `unparsed` (no verb can be named). `verb` is the lemma of the verb, with its particle if it has
    one (`write_down`); `noun` the lemma of its object's head, None where it has no noun. `also`
    holds further verbs asked for, each with its noun or None, in order. `question_word` is one of
    `what`, `how`, `why`, `when`, `where`, `which`, `who`, `whose` and `yes_no`. The published rule
    knows no questions and no further pairs.
    """

    kind: Kind
    verb: str | None = None
    noun: str | None = None
    also: tuple[tuple[str, str | None], ...] = ()
    question_word: str | None = None

    @property
    def pair(self) -> tuple[str, str] | None:
        """Verb and noun; None if either is missing: such a row is dropped where pairs count."""
        return (self.verb, self.noun) if self.verb and self.noun else None

    def to_row(self) -> list[Any]:
        """As JSON holds it."""
        return [self.kind, self.verb, self.noun, self.also, self.question_word]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """Read what `to_row` wrote."""
        kind, verb, noun, also, question_word = row
        further = tuple((verb, noun) for verb, noun in also)
        return cls(kind, verb, noun, further, question_word)


UNPARSED = VerbNoun("unparsed")
