"""P-tuning: virtual tokens from a trained encoder, an LSTM with an MLP (Liu et al. 2021, GPT
Understands, Too, arXiv 2103.10385).

The paper may place virtual tokens anywhere in a template; PEFT, which is followed, places them
before the input. The encoder is trained, only the k·d vectors it makes are saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from pipeline.student.methods.base import Plan
from pipeline.student.methods.prompts import PromptFamily, VirtualTokenSettings

if TYPE_CHECKING:
    from peft import PromptEncoderConfig
    from transformers import PretrainedConfig


class PTuningSettings(VirtualTokenSettings):
    """P-tuning: input embeddings made by a trained encoder."""

    encoder: Literal["lstm", "mlp"] = "lstm"
    """`lstm`: a bidirectional LSTM and a two-layer MLP, as published; `mlp`: a three-layer MLP."""
    encoder_width: PositiveInt = 128
    """Hidden width h of the encoder."""
    encoder_layers: PositiveInt = 2
    """Layers of the LSTM (the paper's)."""
    encoder_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout between the LSTM's layers."""


class PTuning(PromptFamily[PTuningSettings]):
    """Soft prompts from an encoder."""

    name = "p_tuning"
    settings_type = PTuningSettings
    learning_rate = 1e-3  # PEFT's guide

    def build_config(
        self, config: PretrainedConfig, settings: PTuningSettings, plan: Plan
    ) -> PromptEncoderConfig:
        from peft import PromptEncoderConfig

        lstm = settings.encoder == "lstm"
        return PromptEncoderConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=settings.virtual_tokens,
            encoder_reparameterization_type=settings.encoder.upper(),
            encoder_hidden_size=settings.encoder_width,
            # PEFT's MLP has the number of layers it has.
            encoder_num_layers=settings.encoder_layers if lstm else 2,
            encoder_dropout=settings.encoder_dropout,
        )

    def count_parameters(self, config: PretrainedConfig, settings: PTuningSettings) -> int:
        """k·d for the embeddings and, as in PEFT, those of the encoder: an LSTM's layer has
        4h (inputs + h + 2) a direction.
        """
        d, h = int(config.hidden_size), settings.encoder_width
        embedding = settings.virtual_tokens * d
        if settings.encoder == "mlp":
            return embedding + (d + 1) * h + (h + 1) * h + (h + 1) * d
        inputs = [d] + [2 * h] * (settings.encoder_layers - 1)
        lstm = sum(2 * 4 * h * (width + h + 2) for width in inputs)
        return embedding + lstm + (2 * h + 1) * 2 * h + (2 * h + 1) * d


METHOD = PTuning()
