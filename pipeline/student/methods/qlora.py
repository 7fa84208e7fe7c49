"""QLoRA: LoRA on a base quantised to 4 bits (Dettmers et al. 2023, arXiv 2305.14314).

Frozen NF4 weights, block constants quantised again, compute in bfloat16, paged optimiser states.
Parameters are counted as LoRA's. The student is saved as an ordinary LoRA adapter and served beside
the base in its own precision.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt

from pipeline.errors import UsageError
from pipeline.student.methods.base import Plan, Prepared, load_causal_model
from pipeline.student.methods.lora import LoraFamily, LoraSettings

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel


class QloraSettings(LoraSettings):
    """QLoRA: LoRA on a 4-bit base; needs an NVIDIA GPU and bitsandbytes."""

    rank: PositiveInt = 64
    """Rank r of the update (the paper's)."""
    alpha: PositiveInt = 16
    """The update is scaled by alpha / r (the paper's)."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout before the update in training; the paper takes 0.1 up to 13B, 0.05 above."""
    quantisation: Literal["nf4", "fp4"] = "nf4"
    """The 4-bit data type: quantiles of a normal (`nf4`) or floating point (`fp4`)."""
    double_quantisation: bool = True
    """Quantise the blocks' constants again, which saves about 0.4 bit a parameter."""
    paged_optimizer: bool = True
    """Let the optimiser's states move to the host's memory when the GPU's runs out."""


class Qlora(LoraFamily[QloraSettings]):
    """LoRA on an NF4 base; refused without a GPU."""

    name = "qlora"
    settings_type = QloraSettings

    def check(self, config: PretrainedConfig, settings: QloraSettings, device: str) -> None:
        if device != "cuda":
            raise UsageError(
                "method qlora needs an NVIDIA GPU: bitsandbytes' 4-bit weights and paged optimiser "
                f"work with CUDA, and this training is on the {device}. Use --method lora"
            )
        if importlib.util.find_spec("bitsandbytes") is None:
            raise UsageError(
                "method qlora needs bitsandbytes, which is not installed: install evoloom[gpu]"
            )
        super().check(config, settings, device)

    def optimizer(self, settings: QloraSettings) -> str | None:
        return "paged_adamw_32bit" if settings.paged_optimizer else None

    def build_quantisation(self, settings: QloraSettings) -> BitsAndBytesConfig:
        """How the base is quantised as it is loaded."""
        import torch
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True,
            bnb_4bit_quant_type=settings.quantisation,
            bnb_4bit_use_double_quant=settings.double_quantisation,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )

    def load_base(
        self, folder: Path, dtype: str | torch.dtype, settings: QloraSettings, **options: Any
    ) -> PreTrainedModel:
        return load_causal_model(
            folder,
            dtype,
            quantization_config=self.build_quantisation(settings),
            device_map={"": int(os.environ.get("LOCAL_RANK", "0"))},
            **options,
        )

    def prepare(self, model: PreTrainedModel, settings: QloraSettings, plan: Plan) -> Prepared:
        from peft import prepare_model_for_kbit_training

        # The trainer turns gradient checkpointing on where it is wanted.
        ready = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
            model, use_gradient_checkpointing=False
        )
        return super().prepare(ready, settings, plan)


METHOD = Qlora()
