"""What the methods that train a part of the base's own parameters have in common.

They save the trained tensors alone, in the precision they were trained in; merging is putting them
back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.student.methods.base import Method, Plan, Prepared, S, Serving
from pipeline.student.methods.shapes import build_skeleton

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel


class SelectiveMethod(Method[S]):
    """Trains some of the base's parameters and freezes the others."""

    trains_base = True

    @abstractmethod
    def choose(self, model: PreTrainedModel, settings: S) -> Set[str]:
        """Names of the parameters that are trained; `model` may be without memory."""

    def serving(self, settings: S) -> Serving:
        return "merged"

    def prepare(self, model: PreTrainedModel, settings: S, plan: Plan) -> Prepared:
        chosen = self.choose(model, settings)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
        return Prepared(model)

    def count_parameters(self, config: PretrainedConfig, settings: S) -> int:
        """The elements of the chosen parameters; shared ones (tied embeddings) count once."""
        skeleton = build_skeleton(config)
        chosen = self.choose(skeleton, settings)
        return sum(p.numel() for name, p in skeleton.named_parameters() if name in chosen)

    def save(self, model: nn.Module, folder: Path, base_folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.save_checkpoint(model, folder)

    def load(self, base_model: PreTrainedModel, folder: Path, settings: S) -> nn.Module:
        return self.merge(base_model, folder, settings)

    def merge(self, base_model: PreTrainedModel, folder: Path, settings: S) -> PreTrainedModel:
        self.load_checkpoint(base_model, folder)
        base_model.train(mode=False)
        return base_model
