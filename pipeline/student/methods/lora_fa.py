"""LoRA-FA: LoRA with A frozen at its random start, only B trained (Zhang et al. 2023,
arXiv 2308.03303).

r d_out parameters a matrix, and the input of A need not be kept for the backward pass. This is the
method as first published, with the trainer's own optimiser; PEFT's `LoraFAOptimizer` adds the
gradient projection of the paper's later version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.student.methods.base import Plan, Prepared
from pipeline.student.methods.lora import LoraFamily, LoraSettings

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class LoraFaSettings(LoraSettings):
    """LoRA-FA: LoRA with half of it frozen."""


class LoraFa(LoraFamily[LoraFaSettings]):
    """LoRA whose A stays as it was drawn; what is saved is an ordinary LoRA adapter."""

    name = "lora_fa"
    settings_type = LoraFaSettings

    def prepare(self, model: PreTrainedModel, settings: LoraFaSettings, plan: Plan) -> Prepared:
        prepared = super().prepare(model, settings, plan)
        for name, parameter in prepared.model.named_parameters():
            if ".lora_A." in name:
                parameter.requires_grad_(False)
        return prepared

    def count_parameters(self, config: PretrainedConfig, settings: LoraFaSettings) -> int:
        """R d_out a target matrix."""
        return sum(settings.rank * shape.out_features for shape in self.targets(config, settings))


METHOD = LoraFa()
