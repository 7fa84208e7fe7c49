"""AdaLoRA: ΔW = P Λ Q, whose ranks are cut where they matter least (Zhang et al. 2023, ICLR,
arXiv 2303.10512).

All matrices start at rank `initial_rank`. After a share of the steps a budget falls, by a cubic
schedule, to `target_rank` a matrix on average; at each step only the triplets (column of P, value,
row of Q) of the highest smoothed sensitivity times uncertainty are kept. A penalty keeps P and Q
orthogonal. initial_rank (d + k + 1) parameters a matrix are trained.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from pipeline.errors import UsageError
from pipeline.student.methods.base import MethodSettings, Plan, Prepared, Serving
from pipeline.student.methods.peft_method import PeftMethod, save_peft
from pipeline.student.methods.shapes import (
    ALL_LINEAR,
    LinearShape,
    check_rank,
    choose_targets,
    expand_targets,
)

if TYPE_CHECKING:
    from peft import AdaLoraConfig
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


class AdaLoraSettings(MethodSettings):
    """AdaLoRA: a rank for each matrix, found in training."""

    initial_rank: PositiveInt = 12
    """Rank of every matrix at the start; the paper takes 1.5 times the target."""
    target_rank: PositiveInt = 8
    """Average rank at the end."""
    alpha: PositiveInt = 32
    """The update is scaled by alpha / initial_rank."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout before the update in training."""
    target_modules: tuple[str, ...] = Field(default=(ALL_LINEAR,), min_length=1)
    """Ends of the names of the linear layers that get an update; `all-linear`: all but the output
    layer, as in the paper (section 4)."""
    initial_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the steps before ranks are cut."""
    final_share: float = Field(default=0.3, ge=0, lt=1)
    """Share of the steps, at the end, in which ranks stay as they are."""
    allocation_interval: PositiveInt = 1
    """Steps between two cuts; the paper takes 10 to 100 in trainings of many thousand steps."""
    sensitivity_smoothing: float = Field(default=0.85, gt=0, lt=1)
    """β1 of the moving average of the sensitivity."""
    uncertainty_smoothing: float = Field(default=0.85, gt=0, lt=1)
    """β2 of the moving average of the uncertainty."""
    orthogonality: NonNegativeFloat = 0.5
    """Weight of the penalty, 0.1 to 0.5 in the paper; it is in the gradient, not in the reported
    losses."""

    @model_validator(mode="after")
    def _refuse_impossible(self) -> Self:
        if self.target_rank >= self.initial_rank:
            raise ValueError("target_rank must be smaller than initial_rank")
        if self.initial_share + self.final_share >= 1:
            raise ValueError("initial_share + final_share must be below 1, or ranks are never cut")
        return self


class AdaLora(PeftMethod[AdaLoraSettings]):
    """LoRA with an adaptive budget of ranks."""

    name = "adalora"
    settings_type = AdaLoraSettings
    learning_rate = 5e-4  # the paper for MNLI

    def serving(self, settings: AdaLoraSettings) -> Serving:
        return "merged"

    def check(self, config: PretrainedConfig, settings: AdaLoraSettings, device: str) -> None:
        check_rank(
            settings.initial_rank, self.targets(config, settings), "methods.adalora.initial_rank"
        )

    def check_steps(self, settings: AdaLoraSettings, total_steps: int) -> None:
        first, last = _uncut_steps(settings, total_steps)
        if first >= total_steps - last:
            raise UsageError(
                f"method adalora: {total_steps} training steps are too few to cut ranks in; train "
                "longer, or lower methods.adalora.initial_share and final_share"
            )

    def build_config(
        self, config: PretrainedConfig, settings: AdaLoraSettings, plan: Plan
    ) -> AdaLoraConfig:
        from peft import AdaLoraConfig

        first, last = _uncut_steps(settings, plan.total_steps)
        return AdaLoraConfig(
            task_type="CAUSAL_LM",
            init_r=settings.initial_rank,
            target_r=settings.target_rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=expand_targets(config, settings.target_modules),
            tinit=first,
            tfinal=last,
            deltaT=settings.allocation_interval,
            beta1=settings.sensitivity_smoothing,
            beta2=settings.uncertainty_smoothing,
            total_step=plan.total_steps,
            # PEFT would add the penalty to every loss, held-out ones too: the callback applies it.
            orth_reg_weight=0.0,
        )

    def prepare(self, model: PreTrainedModel, settings: AdaLoraSettings, plan: Plan) -> Prepared:
        from pipeline.student.methods.torch_parts.ranks import AllocateRanks

        prepared = super().prepare(model, settings, plan)
        return Prepared(prepared.model, (AllocateRanks(prepared.model, settings.orthogonality),))

    def count_parameters(self, config: PretrainedConfig, settings: AdaLoraSettings) -> int:
        """initial_rank (d + k + 1) a target matrix; ranks that are cut later count too."""
        return sum(
            settings.initial_rank * (shape.in_features + shape.out_features + 1)
            for shape in self.targets(config, settings)
        )

    def targets(self, config: PretrainedConfig, settings: AdaLoraSettings) -> list[LinearShape]:
        """The matrices that get an update."""
        return choose_targets(config, settings.target_modules, "methods.adalora.target_modules")

    def load(
        self, base_model: PreTrainedModel, folder: Path, settings: AdaLoraSettings
    ) -> nn.Module:
        with warnings.catch_warnings():
            # PEFT cuts the ranks all the same; only its general look for such names finds none.
            warnings.filterwarnings("ignore", message="The following rank_pattern keys did not")
            return super().load(base_model, folder, settings)

    def save(self, model: nn.Module, folder: Path, base_folder: Path) -> None:
        from pipeline.student.methods.torch_parts.ranks import note_ranks

        note_ranks(model)
        with warnings.catch_warnings():
            # A matrix may be left with rank 0; PEFT would suspect DeepSpeed.
            warnings.filterwarnings("ignore", message=".*tensor.s. have invalid shape")
            save_peft(model, folder, base_folder)

    def save_checkpoint(self, model: nn.Module, folder: Path) -> None:
        from pipeline.student.methods.torch_parts.ranks import save_importance

        super().save_checkpoint(model, folder)
        save_importance(model, folder)

    def load_checkpoint(self, model: nn.Module, folder: Path) -> None:
        from pipeline.student.methods.torch_parts.ranks import load_importance, note_ranks

        super().load_checkpoint(model, folder)
        load_importance(model, folder)
        note_ranks(model)


METHOD = AdaLora()


def _uncut_steps(settings: AdaLoraSettings, total_steps: int) -> tuple[int, int]:
    """How many steps at the begin and at the end cut no ranks."""
    return int(settings.initial_share * total_steps), int(settings.final_share * total_steps)
