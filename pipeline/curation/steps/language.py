"""Languages: texts in other languages than those wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step, split
from pipeline.diversity import analyse
from pipeline.diversity.languages import UNKNOWN, language_of

_LONGEST = 2000
"""Characters of a text that are looked at."""


class LanguageStep(Step):
    """The language of a text is told by its script and its small words, and an instruction is taken
    for English if the parser can name what it asks for (as `evoloom diversity` has it)."""

    step: ClassVar[str] = "language"

    keep: tuple[str, ...] = Field(default=("en",), min_length=1)
    """ISO 639-1 codes of the languages that are kept."""
    of: Literal["instruction", "output", "both"] = "instruction"
    """The text that is looked at; `both`: each for itself."""
    keep_unknown: bool = True
    """Whether a text is kept whose language cannot be told: most are a few words, a name or code."""
    fewest_words: PositiveInt = 5
    """Of an output with fewer words nothing is told."""

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep the languages wanted; the evidence is the code of the language found."""
        instructions = self._instructions(candidates) if self.of != "output" else {}

        def judge(item: Candidate) -> Reject | None:
            if self.of != "output" and not self._is_kept(instructions[item.instruction]):
                return Reject(item, "instruction_language", None, instructions[item.instruction])
            if self.of != "instruction" and len(item.output.split()) >= self.fewest_words:
                found = language_of(item.output[:_LONGEST])
                if not self._is_kept(found):
                    return Reject(item, "output_language", None, found)
            return None

        return Outcome(*split(candidates, judge))

    def _is_kept(self, language: str) -> bool:
        return language in self.keep or (language == UNKNOWN and self.keep_unknown)

    def _instructions(self, candidates: Sequence[Candidate]) -> dict[str, str]:
        found = {text: language_of(text[:_LONGEST])
                 for text in dict.fromkeys(item.instruction for item in candidates)}  # fmt: skip
        # Parsing takes a thousand times as long, and decides nothing about the others.
        doubtful = [text for text, language in found.items() if language not in ("en", UNKNOWN)]
        for text, parse in zip(doubtful, analyse(doubtful), strict=True):
            reads = parse.kind != "unparsed"
            found[text] = language_of(text[:_LONGEST], reads_as_english=reads)
        return found
