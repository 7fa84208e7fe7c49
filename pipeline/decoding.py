"""Decoding parameters of a stage, for both kinds of API."""

from __future__ import annotations

from pydantic import Field, PositiveInt

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
