"""What a Self-Instruct run is: everything pinned in its manifest, as typed values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.asking import StageModel
from pipeline.records import EarlierRun, SeedTask
from pipeline.sections import NoveltySettings
from pipeline.self_instruct.filter_settings import InstanceFilters, InstructionFilters
from pipeline.self_instruct.settings import SelfInstructSettings

GENERATE, CLASSIFY, INSTANCES = "generate", "classify", "instances"
STAGES = (INSTANCES, CLASSIFY, GENERATE)
"""In the order in which they are sent."""
PROMPTS = ("instruction_generation", "classification_detection", "input_first", "output_first")


@dataclass(frozen=True, slots=True)
class SelfInstructPlan:
    """The pinned part of a run. Two runs with equal plans and equal answers are equal."""

    run_seed: int
    target: int
    window: int
    ceiling: int
    """Generation positions that may be asked at most (`run.ceiling * target`)."""
    model: str
    api: Literal["completions", "chat"]
    drop_parameters: frozenset[str]
    settings: SelfInstructSettings
    filters: InstructionFilters
    instance_filters: InstanceFilters
    novelty: NoveltySettings
    seeds: Sequence[SeedTask]
    shots: Mapping[str, Sequence[Mapping[str, Any]]]
    """Shots of the fixed prompts, by file name without ending."""
    templates: Mapping[str, str]
    """Template texts, by file name."""
    earlier_runs: Sequence[EarlierRun] = ()
    stages: Mapping[str, StageModel] = field(default_factory=dict)
    """Stages that another model answers."""


def default_window(target: int) -> int:
    """How far generation may be ahead of what is applied, in positions (DESIGN.md, Window)."""
    return min(512, max(2, target // 8))
