"""LoHa: ΔW = (alpha / r) (B1 A1) ⊙ (B2 A2), a Hadamard product of two low-rank matrices (Hyeon-Woo
et al. 2021, FedPara, arXiv 2108.06098; LyCORIS, arXiv 2309.14859).

2 r (d + k) parameters a matrix, for a rank of up to r².
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from peft import LoHaConfig
    from transformers import PretrainedConfig


class LohaSettings(MethodSettings):
    """LoHa: the elementwise product of two low-rank updates."""

    rank: PositiveInt = 8
    """Rank r of each factor; the update's rank is up to r²."""
    alpha: PositiveInt = 8
    """The update is scaled by alpha / r."""
    rank_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the update's rows that are left out at each training step."""
    target_modules: tuple[str, ...] = Field(default=(ALL_LINEAR,), min_length=1)
    """Ends of the names of the linear layers that get an update; `all-linear`: all but the output
    layer."""


class Loha(PeftMethod[LohaSettings]):
    """Low-rank Hadamard product."""

    name = "loha"
    kept_weights = 0.5  # it makes most of its changes again in the backward pass
    settings_type = LohaSettings
    learning_rate = 2e-4  # none published for language models: LoRA's

    def serving(self, settings: LohaSettings) -> Serving:
        return "merged"

    def check(self, config: PretrainedConfig, settings: LohaSettings, device: str) -> None:
        check_rank(settings.rank, self.targets(config, settings), "methods.loha.rank")

    def build_config(
        self, config: PretrainedConfig, settings: LohaSettings, plan: Plan
    ) -> LoHaConfig:
        from peft import LoHaConfig

        return LoHaConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            alpha=settings.alpha,
            rank_dropout=settings.rank_dropout,
            target_modules=expand_targets(config, settings.target_modules),
        )

    def count_parameters(self, config: PretrainedConfig, settings: LohaSettings) -> int:
        """2 r (d + k) a target matrix."""
        return sum(
            2 * settings.rank * (shape.in_features + shape.out_features)
            for shape in self.targets(config, settings)
        )

    def targets(self, config: PretrainedConfig, settings: LohaSettings) -> list[LinearShape]:
        """The matrices that get an update."""
        return choose_targets(config, settings.target_modules, "methods.loha.target_modules")


METHOD = Loha()
