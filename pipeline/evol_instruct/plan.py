"""What an Evol-Instruct run is: everything pinned in its run directory, as typed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.asking import StageModel, Structured
from pipeline.evol_instruct.settings import OPERATORS, EvolInstructSettings
from pipeline.records import EarlierRun
from pipeline.sections import NoveltySettings

EVOLVE_PROMPTS = {operator: f"evolve_{operator}" for operator in OPERATORS}
JUDGE_PROMPT, RESPOND_PROMPT, RATE_PROMPT = "judge_equality", "respond", "rate_difficulty"
PROMPTS = (*EVOLVE_PROMPTS.values(), JUDGE_PROMPT, RESPOND_PROMPT, RATE_PROMPT)

EVOLVE, JUDGE, RESPOND, RATE = "evolve", "judge", "respond", "rate"
RESPOND_SOURCE, RATE_SOURCE = "respond_source", "rate_source"
STAGES = (RATE, RATE_SOURCE, RESPOND, RESPOND_SOURCE, JUDGE, EVOLVE)
"""In the order in which they are sent."""


@dataclass(frozen=True, slots=True)
class SourceInstance:
    """An instance as the source has it; one without output is a prompt only.

    `system` and `further_turns` are of conversations, as in `InstanceRow`: they are carried along,
    and no request shows them.
    """

    input: str
    output: str
    system: str | None = None
    further_turns: str | None = None


@dataclass(frozen=True, slots=True)
class SourceInstruction:
    """An instruction that the evolution starts from, with its instances.

    `origin` is `RUN STAGE/POSITION` where it comes from a run. If no instance has an output, its
    response is asked for.
    """

    instruction: str
    instances: tuple[SourceInstance, ...]
    origin: str | None = None
    is_classification: bool | None = None

    @property
    def text(self) -> str:
        """What is evolved: the instruction and, on a line of its own, the first instance's input
        (published code: instruction, line break, input)."""
        given = self.instances[0].input.strip() if self.instances else ""
        return f"{self.instruction.strip()}\n{given}" if given else self.instruction.strip()


@dataclass(frozen=True, slots=True)
class EvolPlan:
    """The pinned part of a run. Two runs with equal plans and equal answers are equal."""

    run_seed: int
    model: str
    api: Literal["completions", "chat"]
    drop_parameters: frozenset[str]
    structured: Structured
    re_asks: int
    settings: EvolInstructSettings
    novelty: NoveltySettings
    source: Sequence[SourceInstruction]
    templates: Mapping[str, str]
    """Template texts, by file name."""
    earlier_runs: Sequence[EarlierRun] = ()
    stages: Mapping[str, StageModel] = field(default_factory=dict)
    """Stages that another model answers."""

    @property
    def positions(self) -> int:
        """Evolutions in all: source instructions times rounds."""
        return len(self.source) * self.settings.rounds
