"""PiSSA: A and B start as the top r singular triplets of W0, the residual is frozen (Meng et al.
2024, arXiv 2404.02948).

Base + adapter equals the base at the start. What is saved is an ordinary LoRA of rank 2r for the
unchanged base: BA - B0 A0 = [B, -B0] [A; A0].
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeInt, PositiveInt

from pipeline.student.methods.base import Plan, Prepared
from pipeline.student.methods.lora import LoraFamily, LoraSettings
from pipeline.student.methods.peft_method import save_peft

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_START = "pissa_start"


class PissaSettings(LoraSettings):
    """PiSSA: LoRA that starts from the principal part of each matrix."""

    rank: PositiveInt = 16
    """Rank r in training; the adapter that is saved and served has 2r."""
    alpha: PositiveInt = 16
    """The update is scaled by alpha / r; the paper takes alpha = r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the update in training; the paper takes none, for the update carries the
    principal part of the weights."""
    subspace_iterations: NonNegativeInt = 16
    """Iterations of the fast singular value decomposition, 16 in the paper; 0: the exact one."""


class Pissa(LoraFamily[PissaSettings]):
    """LoRA from the principal singular values and vectors."""

    name = "pissa"
    settings_type = PissaSettings
    learning_rate = 2e-5  # the paper for LLaMA-2-7B

    def peft_options(self, settings: PissaSettings) -> dict[str, Any]:
        iterations = settings.subspace_iterations
        return {"init_lora_weights": f"pissa_niter_{iterations}" if iterations else "pissa"}

    def prepare(self, model: PreTrainedModel, settings: PissaSettings, plan: Plan) -> Prepared:
        from peft import get_peft_model_state_dict

        prepared = super().prepare(model, settings, plan)
        # Saving needs A0 and B0. A resumed run decomposes the same base with the same seed again.
        start = {
            name: tensor.detach().clone().contiguous()
            for name, tensor in get_peft_model_state_dict(
                prepared.model, save_embedding_layers=False
            ).items()
        }
        setattr(prepared.model, _START, start)
        return prepared

    def save(self, model: nn.Module, folder: Path, base_folder: Path) -> None:
        from safetensors.torch import save_file

        # PEFT converts by comparing with the adapter as it was before training, in a folder whose
        # name serves as that adapter's name.
        with tempfile.TemporaryDirectory(prefix="pissa-") as temporary:
            start = Path(temporary) / "start"
            start.mkdir()
            save_file(getattr(model, _START), start / "adapter_model.safetensors")
            save_peft(
                model, folder, base_folder, path_initial_model_for_weight_conversion=str(start)
            )


METHOD = Pissa()
