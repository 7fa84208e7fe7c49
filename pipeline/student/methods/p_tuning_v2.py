"""P-tuning v2: deep prompts, trained keys and values in every layer, without re-parameterisation
(Liu et al. 2021, arXiv 2110.07602).

k·2Lt parameters, t being the width of a layer's keys. The paper: short prompts for simple
classification, about 100 for hard tagging.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.student.methods.base import Plan
from pipeline.student.methods.prefix_tuning import measure_keys
from pipeline.student.methods.prompts import PromptFamily, VirtualTokenSettings

if TYPE_CHECKING:
    from peft import PrefixTuningConfig
    from transformers import PretrainedConfig


class PTuningV2Settings(VirtualTokenSettings):
    """P-tuning v2: trained keys and values in every layer, themselves the parameters."""


class PTuningV2(PromptFamily[PTuningV2Settings]):
    """Deep prompts."""

    name = "p_tuning_v2"
    settings_type = PTuningV2Settings
    learning_rate = 5e-3  # the authors' scripts take 5e-3 to 1e-2
    allows_gradient_checkpointing = False

    def build_config(
        self, config: PretrainedConfig, settings: PTuningV2Settings, plan: Plan
    ) -> PrefixTuningConfig:
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=settings.virtual_tokens,
            prefix_projection=False,
        )

    def count_parameters(self, config: PretrainedConfig, settings: PTuningV2Settings) -> int:
        """k·2Lt."""
        return settings.virtual_tokens * 2 * int(config.num_hidden_layers) * measure_keys(config)


METHOD = PTuningV2()
