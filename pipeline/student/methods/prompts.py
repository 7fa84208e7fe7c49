"""What the methods with virtual tokens have in common: they cannot be merged, for the trained
vectors stand beside the input, not in the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import PositiveInt

from pipeline.errors import UsageError
from pipeline.student.methods.base import MethodSettings, Serving
from pipeline.student.methods.peft_method import PeftMethod

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class VirtualTokenSettings(MethodSettings):
    """Settings of a method with virtual tokens."""

    virtual_tokens: PositiveInt = 20
    """How many virtual tokens stand before the input; they count towards the context length."""


V = TypeVar("V", bound=VirtualTokenSettings)


class PromptFamily(PeftMethod[V]):
    """Methods whose trained vectors stand before the input."""

    allows_packing = False
    kept_inputs = 0.0

    def serving(self, settings: V) -> Serving:
        return "transformers"

    def reserved_positions(self, settings: V) -> int:
        return settings.virtual_tokens

    def check(self, config: PretrainedConfig, settings: V, device: str) -> None:
        context = getattr(config, "max_position_embeddings", None)
        if context is not None and settings.virtual_tokens >= context:
            raise UsageError(
                f"setting 'methods.{self.name}.virtual_tokens': {settings.virtual_tokens} virtual "
                f"tokens leave no room in the base model's context of {context} tokens"
            )

    def merge(self, base_model: PreTrainedModel, folder: Path, settings: V) -> PreTrainedModel:
        raise UsageError(
            f"method {self.name} cannot be merged into a checkpoint: what it trains stands before "
            "the input, not in the weights. Evaluate the student through Transformers"
        )
