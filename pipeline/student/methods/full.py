"""Full fine-tuning: every parameter of the base is trained.

With Adam about 16 bytes a parameter (METHODS.md, e.2). The learning rate is Stanford Alpaca's.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from pipeline.student.methods.base import MethodSettings
from pipeline.student.methods.selective import SelectiveMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class FullSettings(MethodSettings):
    """Full fine-tuning: all parameters; there is nothing to set."""


class Full(SelectiveMethod[FullSettings]):
    """All layers, embeddings and norms."""

    name = "full"
    settings_type = FullSettings
    learning_rate = 2e-5  # Stanford Alpaca, LLaMA-7B

    def choose(self, model: PreTrainedModel, settings: FullSettings) -> Set[str]:
        return {name for name, _ in model.named_parameters()}


METHOD = Full()
