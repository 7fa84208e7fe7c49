"""Settings of Self-Instruct, with the published values as defaults (METHODS.md a.2 to a.5, a.9)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.sections import Name, Section


class Decoding(Section):
    """Decoding parameters of one stage over one API."""

    max_tokens: PositiveInt
    """Longest completion, in tokens."""
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """Nucleus sampling. Where the published value is 0 (greedy), 1 with temperature 0 is the same
    and is not refused by engines."""
    frequency_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    """As in the OpenAI API."""
    presence_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    """As in the OpenAI API."""
    stop: tuple[Name, ...] = ()
    """Strings that end the completion; not part of it."""


class StageDecoding(Section):
    """Decoding of one stage for both kinds of API; `teacher.api` says which is used."""

    completions: Decoding
    """For base models (`/v1/completions`)."""
    chat: Decoding
    """For chat models (`/v1/chat/completions`): fewer stop strings, since a chat model opens with
    blank lines and markdown."""


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
