"""Settings of Evol-Instruct, with the published values as defaults (METHODS.md c.1 and c.2)."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from pipeline.decoding import Decoding, StageDecoding
from pipeline.sections import Name, Section

Operator = Literal[
    "add_constraints", "deepen", "concretise", "reasoning_steps", "complicate_input", "breadth"
]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
"""The five operators of depth and, last, the one of breadth (section 3.2 of the paper)."""


_NEXT_PROMPT = ("\n####", "\n#The Given Prompt", "\n#Rewritten Prompt", "\n#Created Prompt")
_NEXT_TASK = ("\n### Instruction", "\n### Input", "\n### Response", "\n\n\n\n")


class OperatorWeights(Section):
    """How often each operator is drawn, relative to the others; equal chances as published."""

    add_constraints: NonNegativeFloat = 1.0
    """Depth: one more constraint or requirement."""
    deepen: NonNegativeFloat = 1.0
    """Depth: the inquiry goes deeper and wider."""
    concretise: NonNegativeFloat = 1.0
    """Depth: general concepts become specific ones."""
    reasoning_steps: NonNegativeFloat = 1.0
    """Depth: several steps of reasoning are asked for."""
    complicate_input: NonNegativeFloat = 1.0
    """Depth: input data in some format is added."""
    breadth: NonNegativeFloat = 1.0
    """Breadth: a new instruction of the same domain, but rarer."""

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if not any(getattr(self, name) > 0 for name in OPERATORS):
            raise ValueError("at least one operator needs a weight above 0")
        return self

    def in_order(self) -> list[float]:
        """The weights in the order of `OPERATORS`."""
        return [float(getattr(self, name)) for name in OPERATORS]


def _sampling(max_tokens: int, *stops: str) -> StageDecoding:
    """The published decoding; stops end what a base model would write after its answer: the next
    block of the prompt's own layout, never a heading or a comment of the answer. OpenAI's API takes
    four at most."""
    published: dict[str, Any] = {"max_tokens": max_tokens, "temperature": 1.0, "top_p": 0.9}
    return StageDecoding(completions=Decoding(**published, stop=stops), chat=Decoding(**published))


class EvolInstructSettings(Section):
    """How Evol-Instruct evolves (arXiv 2304.12244, section 3)."""

    source: Name | None = None
    """What is evolved: a run of this store that has ended (also an import), a dataset version, or a
    file in Alpaca's format (JSON, JSON Lines, either also gzipped)."""
    limit: PositiveInt | None = None
    """Source instructions to evolve, the first ones; unset: all."""
    rounds: PositiveInt = 4
    """Rounds (M); each evolves every instruction of the frontier once."""
    weights: OperatorWeights = Field(default_factory=OperatorWeights)
    """Chances of the operators."""
    data_formats: tuple[Name, ...] = Field(
        default=("JSON data", "XML data", "CSV table", "SQL database", "Python code", "HTML page",
                 "shell command"),
        min_length=1,
    )  # fmt: skip
    """Formats of the input that `complicate_input` adds; one is drawn for each request."""
    leak_phrases: tuple[Name, ...] = ("given prompt", "rewritten prompt", "created prompt")
    """Words of the evolving prompts. A child that holds one of them which its parent does not is
    eliminated; upper and lower case are alike."""
    sorry_below_words: NonNegativeInt = 80
    """A response that contains 'sorry' is eliminated if it has fewer words than this."""
    truncated_responses: Literal["eliminate", "keep"] = "eliminate"
    """What becomes of a response that `max_tokens` cut: `keep` teaches a student to stop in
    mid-sentence. The paper does not say."""
    difficulty: bool = False
    """Have the teacher rate the difficulty of each instruction of the result, 1 to 10; one more
    request for each."""
    evolution: StageDecoding = Field(default_factory=lambda: _sampling(2048, *_NEXT_PROMPT))
    """Evolving an instruction."""
    judgement: StageDecoding = Field(default_factory=lambda: _sampling(64, "\n"))
    """Judging whether the child asks for more than its parent."""
    response: StageDecoding = Field(default_factory=lambda: _sampling(2048, *_NEXT_TASK))
    """Responding to an evolved instruction, and to a source instruction that has no output."""
    rating: StageDecoding = Field(default_factory=lambda: _sampling(64, "\n"))
    """Rating the difficulty."""
