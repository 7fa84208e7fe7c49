"""LoRA: W = W0 + (alpha / r) B A, W0 frozen (Hu et al. 2021, arXiv 2106.09685).

r (d + k) parameters a matrix of d × k. Section 7 of the paper: at a fixed budget more kinds of
matrices beat a larger rank, and r of 4 to 16 suffices; QLoRA (arXiv 2305.14314, section 4) found
that every linear layer is needed to reach full fine-tuning. Hence `all-linear` and r = 16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, PositiveInt

from pipeline.student.methods.base import MethodSettings, Plan, Serving
from pipeline.student.methods.peft_method import PeftMethod
from pipeline.student.methods.shapes import (
    ALL_LINEAR,
    LinearShape,
    check_rank,
    choose_targets,
    expand_targets,
)

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PretrainedConfig


class LoraSettings(MethodSettings):
    """LoRA: a low-rank update beside each frozen matrix."""

    rank: PositiveInt = 16
    """Rank r of the update; 4 to 16 suffices (the paper, section 7), vLLM serves up to
    `engine.max_lora_rank`."""
    alpha: PositiveInt = 32
    """The update is scaled by alpha / r; twice the rank is usual."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout before the update in training; 0.05 for models of up to 13B, 0.01 to 0.1 is usual."""
    target_modules: tuple[str, ...] = Field(default=(ALL_LINEAR,), min_length=1)
    """Ends of the names of the linear layers that get an update, such as `q_proj`; `all-linear`:
    all but the output layer."""


L = TypeVar("L", bound=LoraSettings)


class LoraFamily(PeftMethod[L]):
    """Methods whose configuration is PEFT's LoraConfig."""

    learning_rate = 2e-4  # the paper for GPT-3, QLoRA for 7B and 13B

    def serving(self, settings: L) -> Serving:
        return "adapter"

    def check(self, config: PretrainedConfig, settings: L, device: str) -> None:
        check_rank(settings.rank, self.targets(config, settings), f"methods.{self.name}.rank")

    def build_config(self, config: PretrainedConfig, settings: L, plan: Plan) -> LoraConfig:
        from peft import LoraConfig

        return LoraConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=expand_targets(config, settings.target_modules),
            **self.peft_options(settings),
        )

    def peft_options(self, settings: L) -> dict[str, Any]:
        """What this method adds to LoraConfig."""
        return {}

    def count_parameters(self, config: PretrainedConfig, settings: L) -> int:
        """The sum of r (d + k) over the target matrices."""
        targets = self.targets(config, settings)
        return sum(settings.rank * (shape.in_features + shape.out_features) for shape in targets)

    def targets(self, config: PretrainedConfig, settings: L) -> list[LinearShape]:
        """The matrices that get an update."""
        return choose_targets(
            config, settings.target_modules, f"methods.{self.name}.target_modules"
        )


class Lora(LoraFamily[LoraSettings]):
    """LoRA as published."""

    name = "lora"
    settings_type = LoraSettings


METHOD = Lora()
