"""Settings of Self-Instruct, with the published values as defaults (METHODS.md a.2 to a.5, a.9)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.decoding import Decoding, StageDecoding
from pipeline.sections import Section

_ITEM_STOPS = ("\n\n", "\n16", "16.", "16 .")


def _generation() -> StageDecoding:
    sampling = {"max_tokens": 1024, "temperature": 0.7, "top_p": 0.5, "presence_penalty": 2.0}
    return StageDecoding(
        completions=Decoding(**sampling, stop=_ITEM_STOPS),
        chat=Decoding(**sampling, stop=("\n16", "16 .")),
    )


def _classification() -> StageDecoding:
    return StageDecoding(
        completions=Decoding(max_tokens=3, stop=("\n", "Task")), chat=Decoding(max_tokens=3)
    )


def _instances(max_tokens: int) -> StageDecoding:
    greedy = {"max_tokens": max_tokens, "presence_penalty": 1.5}
    return StageDecoding(
        completions=Decoding(**greedy, stop=("Example 6", "Task:")),
        chat=Decoding(**greedy, stop=("Example 6",)),
    )


class SelfInstructSettings(Section):
    """How Self-Instruct asks (the released code, except where a field says otherwise)."""

    shots: PositiveInt = 8
    """Instructions shown in a generation prompt."""
    machine_shots: NonNegativeInt = 2
    """How many of them come from the instructions made so far, once there are as many."""
    classification_seeds_only: bool = False
    """Load only classification seeds, for shots and for novelty, and ask for classification
    tasks."""
    numbering: Literal["plain", "task"] = "plain"
    """`plain`: `1.` as in the released code; `task`: `Task 1:` as the paper prints it."""
    published_casing: bool = False
    """Lower-case all but the first letter of an instruction, as the released code does; off, since
    it destroys names."""
    generation: StageDecoding = Field(default_factory=_generation)
    """Instruction generation."""
    classification: StageDecoding = Field(default_factory=_classification)
    """Classification detection."""
    input_first: StageDecoding = Field(default_factory=lambda: _instances(350))
    """Instances of tasks that are not classification."""
    output_first: StageDecoding = Field(default_factory=lambda: _instances(300))
    """Instances of classification tasks."""
