"""Gradual unfreezing: the top layers first, then downwards step by step (Howard and Ruder 2018,
ULMFiT, arXiv 1801.06146, section 3.3).

The paper unfreezes one layer an epoch; instruction tuning has few epochs and many layers, so here
the layers are unfrozen in equal groups at equal distances, over a share of the training. With the
last group the embeddings follow. All parameters are trained in the end.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.errors import UsageError
from pipeline.student.methods.base import MethodSettings, Plan, Prepared, write_tensors
from pipeline.student.methods.selective import SelectiveMethod
from pipeline.student.methods.shapes import split_by_depth

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


class GradualUnfreezingSettings(MethodSettings):
    """Full fine-tuning that begins with the top layers."""

    stages: int = Field(default=4, ge=2)
    """In how many groups of layers, from the top, the model is unfrozen."""
    full_after: float = Field(default=0.5, gt=0, lt=1)
    """Share of the steps after which everything is trained."""


class GradualUnfreezing(SelectiveMethod[GradualUnfreezingSettings]):
    """Full fine-tuning by stages."""

    name = "gradual_unfreezing"
    settings_type = GradualUnfreezingSettings
    learning_rate = 2e-5  # as for full fine-tuning
    changes_trained = True

    def check(
        self, config: PretrainedConfig, settings: GradualUnfreezingSettings, device: str
    ) -> None:
        depth = int(config.num_hidden_layers)
        if settings.stages > depth:
            raise UsageError(
                f"setting 'methods.gradual_unfreezing.stages': the base model has {depth} layers, "
                f"got {settings.stages} groups of them"
            )

    def check_steps(self, settings: GradualUnfreezingSettings, total_steps: int) -> None:
        starts = schedule(settings, total_steps)
        if len(set(starts)) < len(starts):
            raise UsageError(
                f"method gradual_unfreezing: {total_steps} training steps are too few for "
                f"{settings.stages} stages; train longer, or lower methods.gradual_unfreezing.stages"
            )

    def choose(self, model: PreTrainedModel, settings: GradualUnfreezingSettings) -> Set[str]:
        return {name for name, _ in model.named_parameters()}

    def prepare(
        self, model: PreTrainedModel, settings: GradualUnfreezingSettings, plan: Plan
    ) -> Prepared:
        """All parameters require a gradient until the first step, so that the trainer gives all of
        them to its optimiser.
        """
        from pipeline.student.methods.torch_parts.unfreezing import Unfreeze

        starts = schedule(settings, plan.total_steps)
        prepared = super().prepare(model, settings, plan)
        stages = group_by_stage(model, settings.stages)
        return Prepared(prepared.model, (Unfreeze(model, tuple(zip(starts, stages, strict=True))),))

    def save_checkpoint(self, model: nn.Module, folder: Path) -> None:
        """All of them, also those that are frozen now: a later stage may have moved them when this
        checkpoint, as the best, is put back.
        """
        write_tensors(dict(model.named_parameters()), folder)


def schedule(settings: GradualUnfreezingSettings, total_steps: int) -> list[int]:
    """The step at which each stage begins."""
    last = settings.full_after * total_steps
    return [round(last * stage / (settings.stages - 1)) for stage in range(settings.stages)]


def group_by_stage(model: PreTrainedModel, stages: int) -> list[Set[str]]:
    """The names of the parameters that each stage adds."""
    parts = split_by_depth(model)
    depth = len(parts.layers)
    groups: list[Set[str]] = []
    for stage in range(stages):
        first, end = depth * (stages - 1 - stage) // stages, depth * (stages - stage) // stages
        groups.append(frozenset().union(*parts.layers[first:end]))
    groups[0] |= parts.above
    groups[-1] |= parts.below
    return groups


METHOD = GradualUnfreezing()
