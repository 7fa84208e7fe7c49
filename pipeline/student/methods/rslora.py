"""rsLoRA: LoRA scaled by alpha / √r (Kalajdzievski 2023, arXiv 2312.03732).

Under alpha / r the gradient shrinks as the rank grows, so that a large rank learns no more than a
small one; alpha / √r keeps it stable. Hence a larger rank here, at LoRA's usual scale of 2.
"""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from pipeline.student.methods.lora import LoraFamily, LoraSettings


class RsLoraSettings(LoraSettings):
    """rsLoRA: LoRA with a scale that stays right at large ranks."""

    rank: PositiveInt = 64
    """Rank r of the update."""
    alpha: PositiveInt = 16
    """The update is scaled by alpha / √r."""


class RsLora(LoraFamily[RsLoraSettings]):
    """Rank-stabilised LoRA; vLLM reads `use_rslora` and scales alike."""

    name = "rslora"
    settings_type = RsLoraSettings

    def peft_options(self, settings: RsLoraSettings) -> dict[str, Any]:
        return {"use_rslora": True}


METHOD = RsLora()
