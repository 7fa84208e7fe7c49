"""DoRA: W' = m ⊙ (W0 + BA) / ‖W0 + BA‖, m trained (Liu et al. 2024, arXiv 2402.09353).

The paper takes the norm by column of a k × d matrix and trains k magnitudes more than LoRA; PEFT
keeps one magnitude an output, so a matrix of d_out × d_in has r (d_in + d_out) + d_out parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.student.methods.base import Serving
from pipeline.student.methods.lora import LoraFamily, LoraSettings

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class DoraSettings(LoraSettings):
    """DoRA: magnitude and direction of each matrix are trained apart."""


class Dora(LoraFamily[DoraSettings]):
    """Weight-decomposed LoRA; vLLM refuses DoRA adapters, so it is merged."""

    name = "dora"
    settings_type = DoraSettings
    # The magnitude's gradient needs what the base and what the adapter make of an input of its own.
    kept_inputs = 2.0
    kept_outputs = 2.0

    def serving(self, settings: DoraSettings) -> Serving:
        return "merged"

    def peft_options(self, settings: DoraSettings) -> dict[str, Any]:
        return {"use_dora": True}

    def count_parameters(self, config: PretrainedConfig, settings: DoraSettings) -> int:
        """LoRA's and, as PEFT counts, one magnitude an output."""
        magnitudes = sum(shape.out_features for shape in self.targets(config, settings))
        return super().count_parameters(config, settings) + magnitudes


METHOD = Dora()
