"""What the methods that PEFT implements have in common."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import UsageError
from pipeline.student.methods.base import Method, Plan, Prepared, S, seeded

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


class PeftMethod(Method[S]):
    """A method that PEFT has: its configuration is all there is to write."""

    @abstractmethod
    def build_config(self, config: PretrainedConfig, settings: S, plan: Plan) -> PeftConfig:
        """PEFT's configuration for this base model."""

    def prepare(self, model: PreTrainedModel, settings: S, plan: Plan) -> Prepared:
        from peft import get_peft_model

        peft_config = self.build_config(model.config, settings, plan)
        with seeded(plan.seed):
            return Prepared(cast("nn.Module", get_peft_model(model, peft_config)))

    def save(self, model: nn.Module, folder: Path, base_folder: Path) -> None:
        save_peft(model, folder, base_folder)

    def load(self, base_model: PreTrainedModel, folder: Path, settings: S) -> nn.Module:
        from peft import PeftModel

        student: nn.Module = PeftModel.from_pretrained(base_model, folder)
        return student.eval()

    def merge(self, base_model: PreTrainedModel, folder: Path, settings: S) -> PreTrainedModel:
        if getattr(base_model, "is_quantized", False):
            raise UsageError(
                f"method {self.name}: merging into quantised weights would round the student away; "
                "load the base model unquantised"
            )
        student: Any = self.load(base_model, folder, settings)
        merged: PreTrainedModel = student.merge_and_unload(safe_merge=True)
        return merged


def save_peft(model: nn.Module, folder: Path, base_folder: Path, **options: Any) -> None:
    """Write a PEFT model's adapter, which names `base_folder` as its base."""
    from peft import PeftModel

    assert isinstance(model, PeftModel)
    for config in model.peft_config.values():
        config.base_model_name_or_path = str(base_folder)
    # "auto" would look for the base model's configuration on the hub.
    model.save_pretrained(str(folder), save_embedding_layers=False, **options)
