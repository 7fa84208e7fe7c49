"""BitFit: only the bias terms are trained (Ben Zaken et al. 2021, arXiv 2106.10199).

0.08 to 0.09% of BERT. LLaMA-like models have no biases (Qwen2 has those of queries, keys and
values): on a model without any, the method is refused instead of training nothing.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from pipeline.errors import UsageError
from pipeline.student.methods.base import MethodSettings
from pipeline.student.methods.selective import SelectiveMethod
from pipeline.student.methods.shapes import build_skeleton

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class BitFitSettings(MethodSettings):
    """BitFit: all bias terms; there is nothing to set."""


class BitFit(SelectiveMethod[BitFitSettings]):
    """Bias terms of attention, FFN and norms."""

    name = "bitfit"
    settings_type = BitFitSettings
    learning_rate = 1e-3  # the paper searched 1e-4 to 1e-3

    def check(self, config: PretrainedConfig, settings: BitFitSettings, device: str) -> None:
        if not self.choose(build_skeleton(config), settings):
            raise UsageError(
                f"method bitfit trains bias terms, and the base model ({config.model_type}) has "
                "none; take another method, such as ia3 or lora"
            )

    def choose(self, model: PreTrainedModel, settings: BitFitSettings) -> Set[str]:
        return {name for name, _ in model.named_parameters() if name.endswith(".bias")}


METHOD = BitFit()
