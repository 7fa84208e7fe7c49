"""Gradual unfreezing's part in the training loop."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Unfreeze(TrainerCallback):
    """Before each step, lets exactly the parameters of the stages that have begun be trained.

    A frozen parameter has no gradient, so that the optimiser neither moves nor decays it.
    """

    def __init__(self, model: nn.Module, stages: Sequence[tuple[int, Set[str]]]) -> None:
        """`stages`: (first step, names of the parameters that it adds), in order."""
        self._model = model
        self._stages = stages

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        trained = {
            name for first, names in self._stages if first <= state.global_step for name in names
        }
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(name in trained)
