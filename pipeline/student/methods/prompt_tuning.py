"""Prompt tuning: k trained vectors before the input embeddings, all else frozen (Lester et al. 2021,
arXiv 2104.08691).

k·d parameters. The vectors start from embeddings of the vocabulary, which the paper (section 3.2)
found better than random ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.student.methods.base import Plan
from pipeline.student.methods.prompts import PromptFamily, VirtualTokenSettings

if TYPE_CHECKING:
    from peft import PromptTuningConfig
    from transformers import PretrainedConfig


class PromptTuningSettings(VirtualTokenSettings):
    """Prompt tuning: trained input embeddings before each input."""

    initial_text: str | None = Field(default=None, min_length=1)
    """Text whose tokens' embeddings the virtual tokens start from, repeated or cut to their number,
    such as a description of the task; unset: random entries of the vocabulary."""


class PromptTuning(PromptFamily[PromptTuningSettings]):
    """Soft prompts at the input."""

    name = "prompt_tuning"
    settings_type = PromptTuningSettings
    learning_rate = 3e-2  # PEFT's guide, with AdamW; the paper's 0.3 is for Adafactor

    def build_config(
        self, config: PretrainedConfig, settings: PromptTuningSettings, plan: Plan
    ) -> PromptTuningConfig:
        from peft import PromptTuningConfig, PromptTuningInit

        text = settings.initial_text
        return PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=settings.virtual_tokens,
            prompt_tuning_init=PromptTuningInit.TEXT if text else PromptTuningInit.SAMPLE_VOCAB,
            prompt_tuning_init_text=text,
            tokenizer_name_or_path=config._name_or_path if text else None,
        )

    def count_parameters(self, config: PretrainedConfig, settings: PromptTuningSettings) -> int:
        """k·d."""
        return settings.virtual_tokens * int(config.hidden_size)


METHOD = PromptTuning()
