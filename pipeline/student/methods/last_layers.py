"""Partial fine-tuning: the last k layers are trained, embeddings and lower layers frozen.

A quarter of the layers reached 90% of full fine-tuning (Lee et al. 2019, What Would Elsa Do?,
arXiv 1911.03090). The norm above the layers is trained too, and the output layer unless it is the
embeddings.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from pipeline.errors import UsageError
from pipeline.student.methods.base import MethodSettings
from pipeline.student.methods.selective import SelectiveMethod
from pipeline.student.methods.shapes import split_by_depth

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class LastLayersSettings(MethodSettings):
    """Fine-tuning of the last layers alone."""

    layers: PositiveInt | None = None
    """How many layers, from the top, are trained; unset: a quarter of them, rounded up."""


class LastLayers(SelectiveMethod[LastLayersSettings]):
    """The top of the model."""

    name = "last_layers"
    settings_type = LastLayersSettings
    learning_rate = 2e-5  # as for full fine-tuning

    def check(self, config: PretrainedConfig, settings: LastLayersSettings, device: str) -> None:
        depth = int(config.num_hidden_layers)
        if settings.layers is not None and settings.layers > depth:
            raise UsageError(
                f"setting 'methods.last_layers.layers': the base model has {depth} layers, "
                f"got {settings.layers}"
            )

    def choose(self, model: PreTrainedModel, settings: LastLayersSettings) -> Set[str]:
        parts = split_by_depth(model)
        count = settings.layers or -(-len(parts.layers) // 4)
        return parts.above.union(*parts.layers[-count:])


METHOD = LastLayers()
