"""Lengths: texts that are too short to say anything or too long to be learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import NonNegativeInt, model_validator

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step, split

_PARTS = ("instruction", "input", "output")


class LengthStep(Step):
    """An output is all answers of a conversation together."""

    step: ClassVar[str] = "length"

    unit: Literal["words", "characters"] = "words"
    """What is counted: words are what white space separates."""
    min_instruction: NonNegativeInt | None = None
    """Shortest instruction that is kept; unset: any."""
    max_instruction: NonNegativeInt | None = None
    """Longest instruction that is kept; unset: any."""
    min_input: NonNegativeInt | None = None
    """Shortest input that is kept, an empty one always; unset: any."""
    max_input: NonNegativeInt | None = None
    """Longest input that is kept; unset: any."""
    min_output: NonNegativeInt | None = None
    """Shortest output that is kept; unset: any."""
    max_output: NonNegativeInt | None = None
    """Longest output that is kept; unset: any."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields if name != "unit"):
            raise ValueError("no limit is set; set min_output, for instance")
        for part in _PARTS:
            low, high = getattr(self, f"min_{part}"), getattr(self, f"max_{part}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{part} ({low}) is greater than max_{part} ({high})")
        return self

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep what is within the limits; the score is the length."""
        return Outcome(*split(candidates, self._judge))

    def _judge(self, item: Candidate) -> Reject | None:
        texts = {"instruction": item.instruction, "input": item.input,
                 "output": "\n".join(item.responses)}  # fmt: skip
        for part, text in texts.items():
            low, high = getattr(self, f"min_{part}"), getattr(self, f"max_{part}")
            if low is None and high is None:
                continue
            length = len(text.split()) if self.unit == "words" else len(text)
            if low is not None and length < low and not (part == "input" and not text):
                return Reject(item, f"{part}_too_short", length)
            if high is not None and length > high:
                return Reject(item, f"{part}_too_long", length)
        return None
