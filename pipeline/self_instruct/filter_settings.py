"""Settings of Self-Instruct's heuristic filters; every default is the published constant."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Phrase = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""A word or phrase to look for; blank ones would match everything."""

PUBLISHED_KEYWORDS = (
    "image",
    "images",
    "graph",
    "graphs",
    "picture",
    "pictures",
    "file",
    "files",
    "map",
    "maps",
    "draw",
    "plot",
    "go to",
)
"""The 13 of the released code (the paper names three of them as examples)."""


class InstructionFilters(BaseModel):
    """Which instructions are rejected before novelty is measured (arXiv 2212.10560, step 1)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    min_words: int = Field(default=4, ge=1)
    """Fewest whitespace-separated words that are kept (published: 4)."""

    max_words: int = Field(default=150, ge=1)
    """Most whitespace-separated words that are kept (published: 150)."""

    keywords: tuple[Phrase, ...] = PUBLISHED_KEYWORDS
    """Words or phrases that a text-only model cannot serve; one of them as a whole word, in any
    letter case, rejects the instruction (published: the 13 of the released code)."""

    forbidden_prefixes: tuple[Phrase, ...] = ("Write a program",)
    """Openings that reject an instruction, in any letter case (published: 'Write a program')."""

    reject_leading_punctuation: bool = True
    """Reject an instruction whose first character is ASCII punctuation (published: true)."""

    reject_non_ascii_start: bool = True
    """Reject an instruction whose first character is not ASCII (published: true)."""

    @model_validator(mode="after")
    def _check_word_range(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(
                f"min_words ({self.min_words}) is greater than max_words ({self.max_words}): "
                "no instruction could pass"
            )
        return self


class InstanceFilters(BaseModel):
    """Which instances of an instruction are rejected (arXiv 2212.10560, step 4)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    drop_empty_outputs: bool = True
    """Reject an instance without output (published: true)."""

    drop_copied_inputs: bool = True
    """Reject an instance whose output equals its input (published: true)."""

    drop_trailing_colons: bool = True
    """Reject an instance whose input or output ends in a colon, as cut-off text does
    (published: true)."""

    drop_conflicting_inputs: bool = True
    """Reject all instances of an instruction if two of them give one non-empty input different
    outputs (published: true)."""

    drop_duplicates: bool = True
    """Reject an instance that repeats an earlier one of its instruction (published: true)."""

    max_instances: int = Field(default=5, ge=1)
    """Most instances kept for one instruction, sampled from those that pass (published: 5)."""
