"""Prefix tuning: k trained keys and values in every layer, from an MLP while training (Li and Liang
2021, arXiv 2101.00190).

P = MLP(P'): k·t + (t·h + h) + (h·2Lt + 2Lt) parameters are trained, t being the width of a layer's
keys (with grouped queries as PEFT counts it: key-value heads times head dimension), h the MLP's and
L the layers; only P, k·2Lt numbers, is saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import PositiveInt

from pipeline.student.methods.base import Plan
from pipeline.student.methods.prompts import PromptFamily, VirtualTokenSettings

if TYPE_CHECKING:
    from peft import PrefixTuningConfig
    from transformers import PretrainedConfig


class PrefixTuningSettings(VirtualTokenSettings):
    """Prefix tuning: trained keys and values in every layer; 10 (table to text) to 200
    (summarisation) virtual tokens were best in the paper."""

    encoder_width: PositiveInt = 512
    """Hidden width h of the MLP that makes the prefixes while training (the paper's, for tables to
    text)."""


class PrefixTuning(PromptFamily[PrefixTuningSettings]):
    """Re-parameterised prefixes."""

    name = "prefix_tuning"
    settings_type = PrefixTuningSettings
    learning_rate = 5e-5  # the paper, table to text with GPT-2
    allows_gradient_checkpointing = False

    def build_config(
        self, config: PretrainedConfig, settings: PrefixTuningSettings, plan: Plan
    ) -> PrefixTuningConfig:
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=settings.virtual_tokens,
            prefix_projection=True,
            encoder_hidden_size=settings.encoder_width,
        )

    def count_parameters(self, config: PretrainedConfig, settings: PrefixTuningSettings) -> int:
        """Those of P' and of the MLP."""
        width, hidden = measure_keys(config), settings.encoder_width
        outputs = 2 * int(config.num_hidden_layers) * width
        embedding = settings.virtual_tokens * width
        return embedding + (width + 1) * hidden + (hidden + 1) * outputs


def measure_keys(config: PretrainedConfig) -> int:
    """Width of one layer's keys: key-value heads times head dimension."""
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or int(config.hidden_size) // heads
    return int(getattr(config, "num_key_value_heads", None) or heads) * int(width)


METHOD = PrefixTuning()
