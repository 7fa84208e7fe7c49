"""OFT: W' = W0 R, R an orthogonal matrix of blocks (Qiu et al. 2023, arXiv 2306.07280; the form
that rotates the input: OFTv2, Qiu et al. 2025, arXiv 2506.19847).

Each block of b × b is the Cayley transform of a skew-symmetric matrix, b (b - 1) / 2 parameters; a
matrix with d_in inputs has d_in / b blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from pipeline.errors import UsageError
from pipeline.student.methods.base import MethodSettings, Plan, Serving
from pipeline.student.methods.peft_method import PeftMethod
from pipeline.student.methods.shapes import ALL_LINEAR, LinearShape, choose_targets, expand_targets

if TYPE_CHECKING:
    from peft import OFTConfig
    from transformers import PretrainedConfig


class OftSettings(MethodSettings):
    """OFT: the inputs of each matrix are rotated, in blocks."""

    block_size: int = Field(default=32, ge=2)
    """Width b of the rotated blocks; it must divide the inputs of every target module."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the blocks that are left unrotated at each training step."""
    exact_cayley: bool = False
    """Invert a matrix for each rotation (exactly orthogonal, slower) instead of a Neumann series."""
    neumann_terms: int = Field(default=5, ge=2)
    """Terms of the Neumann series."""
    target_modules: tuple[str, ...] = Field(default=(ALL_LINEAR,), min_length=1)
    """Ends of the names of the linear layers that are rotated; `all-linear`: all but the output
    layer."""


class Oft(PeftMethod[OftSettings]):
    """Orthogonal fine-tuning."""

    name = "oft"
    settings_type = OftSettings
    learning_rate = 2e-4  # no one value published for language models: LoRA's

    def serving(self, settings: OftSettings) -> Serving:
        return "merged"

    def check(self, config: PretrainedConfig, settings: OftSettings, device: str) -> None:
        for shape in self.targets(config, settings):
            if shape.in_features % settings.block_size:
                raise UsageError(
                    f"setting 'methods.oft.block_size': {settings.block_size} does not divide the "
                    f"{shape.in_features} inputs of {shape.name}"
                )

    def build_config(
        self, config: PretrainedConfig, settings: OftSettings, plan: Plan
    ) -> OFTConfig:
        from peft import OFTConfig

        return OFTConfig(
            task_type="CAUSAL_LM",
            oft_block_size=settings.block_size,
            module_dropout=settings.dropout,
            use_cayley_neumann=not settings.exact_cayley,
            num_cayley_neumann_terms=settings.neumann_terms,
            target_modules=expand_targets(config, settings.target_modules),
        )

    def count_parameters(self, config: PretrainedConfig, settings: OftSettings) -> int:
        """(d_in / b) · b (b - 1) / 2 a target matrix."""
        block = settings.block_size
        return sum(
            shape.in_features // block * (block * (block - 1) // 2)
            for shape in self.targets(config, settings)
        )

    def targets(self, config: PretrainedConfig, settings: OftSettings) -> list[LinearShape]:
        """The matrices that are rotated."""
        return choose_targets(config, settings.target_modules, "methods.oft.target_modules")


METHOD = Oft()
