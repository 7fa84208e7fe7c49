"""VeRA: one frozen random pair A, B for all layers, trained vectors d and b: ΔW = diag(b) B diag(d) A
(Kopiczko et al. 2023, arXiv 2310.11454).

r + d_out parameters a matrix. PEFT draws one pair of the largest dimensions; a smaller matrix uses
a part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.errors import UsageError
from pipeline.student.methods.base import MethodSettings, Plan, Serving
from pipeline.student.methods.peft_method import PeftMethod
from pipeline.student.methods.shapes import ALL_LINEAR, LinearShape, choose_targets, expand_targets

if TYPE_CHECKING:
    from peft import VeraConfig
    from transformers import PretrainedConfig


class VeraSettings(MethodSettings):
    """VeRA: two vectors a matrix, between random projections that all matrices share."""

    rank: PositiveInt = 256
    """Rank r of the shared projections; larger than LoRA's, for a rank costs one parameter (the
    paper takes 256 for LLaMA)."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout before the update in training."""
    initial_d: PositiveFloat = 0.1
    """What the vectors d start at (the paper's; b starts at 0)."""
    target_modules: tuple[str, ...] = Field(default=(ALL_LINEAR,), min_length=1)
    """Ends of the names of the linear layers that get an update; `all-linear`: all but the output
    layer, as in the paper's instruction tuning."""


class Vera(PeftMethod[VeraSettings]):
    """Vector-based random matrix adaptation."""

    name = "vera"
    kept_inputs = 0.3  # its large matrices are frozen; what the first of them makes is kept
    kept_outputs = 1.0
    settings_type = VeraSettings
    learning_rate = 4e-3  # the paper, instruction tuning of LLaMA: ten times its LoRA's

    def serving(self, settings: VeraSettings) -> Serving:
        return "merged"

    def check(self, config: PretrainedConfig, settings: VeraSettings, device: str) -> None:
        targets = self.targets(config, settings)
        bound = max(max(shape.in_features, shape.out_features) for shape in targets)
        if settings.rank > bound:
            raise UsageError(
                f"setting 'methods.vera.rank': rank {settings.rank} is larger than the largest "
                f"dimension of the target modules, {bound}"
            )

    def build_config(
        self, config: PretrainedConfig, settings: VeraSettings, plan: Plan
    ) -> VeraConfig:
        from peft import VeraConfig

        return VeraConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            vera_dropout=settings.dropout,
            d_initial=settings.initial_d,
            target_modules=expand_targets(config, settings.target_modules),
            projection_prng_key=plan.seed,
        )

    def count_parameters(self, config: PretrainedConfig, settings: VeraSettings) -> int:
        """R + d_out a target matrix."""
        return sum(settings.rank + shape.out_features for shape in self.targets(config, settings))

    def targets(self, config: PretrainedConfig, settings: VeraSettings) -> list[LinearShape]:
        """The matrices that get an update."""
        return choose_targets(config, settings.target_modules, "methods.vera.target_modules")


METHOD = Vera()
