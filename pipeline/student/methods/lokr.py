"""LoKr: ΔW = (alpha / r) C ⊗ (B A), a Kronecker product (KronA, Edalati et al. 2022,
arXiv 2212.10650; LyCORIS, Yeh et al. 2023, arXiv 2309.14859).

With d = l·k and d_in = m·n, C is l × m and B A is k × n of rank r: l·m + r (k + n) parameters a
matrix. As in PEFT, which is followed, a factor too small for rank r is trained whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, PositiveInt

from pipeline.errors import UsageError
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
    from peft import LoKrConfig
    from transformers import PretrainedConfig


class LokrSettings(MethodSettings):
    """LoKr: a Kronecker product of a small matrix and a low-rank one."""

    rank: PositiveInt = 8
    """Rank r of the larger factor."""
    alpha: PositiveInt = 8
    """The update is scaled by alpha / r."""
    decompose_both: bool = False
    """Give the smaller factor rank r too, where that saves parameters."""
    decompose_factor: int = -1
    """Size of the smaller factor, as near as the dimensions allow; -1: near their square roots."""
    rank_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the update's rows that are left out at each training step."""
    target_modules: tuple[str, ...] = Field(default=(ALL_LINEAR,), min_length=1)
    """Ends of the names of the linear layers that get an update; `all-linear`: all but the output
    layer."""


class Lokr(PeftMethod[LokrSettings]):
    """Low-rank Kronecker product."""

    name = "lokr"
    kept_weights = 1.0
    settings_type = LokrSettings
    learning_rate = 2e-4  # none published for decoder models: LoRA's

    def serving(self, settings: LokrSettings) -> Serving:
        return "merged"

    def check(self, config: PretrainedConfig, settings: LokrSettings, device: str) -> None:
        if settings.decompose_factor == 0 or settings.decompose_factor < -1:
            raise UsageError(
                "setting 'methods.lokr.decompose_factor': -1 or a positive number is expected, "
                f"got {settings.decompose_factor}"
            )
        check_rank(settings.rank, self.targets(config, settings), "methods.lokr.rank")

    def build_config(
        self, config: PretrainedConfig, settings: LokrSettings, plan: Plan
    ) -> LoKrConfig:
        from peft import LoKrConfig

        return LoKrConfig(
            task_type="CAUSAL_LM",
            r=settings.rank,
            alpha=settings.alpha,
            decompose_both=settings.decompose_both,
            decompose_factor=settings.decompose_factor,
            rank_dropout=settings.rank_dropout,
            target_modules=expand_targets(config, settings.target_modules),
        )

    def count_parameters(self, config: PretrainedConfig, settings: LokrSettings) -> int:
        """l·m + r (k + n) a target matrix, factors that are trained whole counted so."""
        return sum(_count(shape, settings) for shape in self.targets(config, settings))

    def targets(self, config: PretrainedConfig, settings: LokrSettings) -> list[LinearShape]:
        """The matrices that get an update."""
        return choose_targets(config, settings.target_modules, "methods.lokr.target_modules")


def _count(shape: LinearShape, settings: LokrSettings) -> int:
    from peft.tuners.lokr.layer import factorization

    rank = settings.rank
    m, n = factorization(shape.in_features, settings.decompose_factor)
    outer, k = factorization(shape.out_features, settings.decompose_factor)
    small = outer * m
    if settings.decompose_both and rank < max(outer, m) / 2:
        small = rank * (outer + m)
    return small + (rank * (k + n) if rank < max(k, n) / 2 else k * n)


METHOD = Lokr()
