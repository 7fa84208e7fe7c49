"""AdaLoRA's part in the training loop: the penalty, the cutting of ranks, and what a resume needs.

PEFT's RankAllocator cuts a rank by setting its singular value (`lora_E`) to zero after each step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FILE = "rank_importance.safetensors"
_AVERAGES = ("exp_avg_ipt", "exp_avg_unc")


class AllocateRanks(TrainerCallback):
    """Adds the gradient of the orthogonality penalty, and cuts ranks after each step."""

    def __init__(self, model: nn.Module, orthogonality: float) -> None:
        self._model: Any = model
        self._orthogonality = orthogonality

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After clipping; through `grad`, so that it holds however the trainer computes its loss
        and DDP's hooks do not fire a second time.
        """
        if not self._orthogonality:
            return
        factors = [
            parameter
            for name, parameter in self._model.named_parameters()
            if parameter.requires_grad and (".lora_A." in name or ".lora_B." in name)
        ]
        penalty = self._orthogonality * measure_skew(factors)
        for factor, gradient in zip(factors, torch.autograd.grad(penalty, factors), strict=True):
            factor.grad = gradient if factor.grad is None else factor.grad + gradient

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """After the step and before gradients are cleared; `global_step` counts from 0 here."""
        self._model.base_model.update_and_allocate(state.global_step)


def measure_skew(factors: list[nn.Parameter]) -> torch.Tensor:
    """Mean over P and Q of ‖PᵀP - I‖ and ‖QQᵀ - I‖ (Frobenius), as in the authors' code; the paper
    writes the squares. Each factor is r × d or d × r, r being the smaller.
    """
    total = torch.zeros((), device=factors[0].device)
    for factor in factors:
        rows = factor if factor.shape[0] <= factor.shape[1] else factor.T
        gram = rows @ rows.T
        total = total + torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device))
    return total / len(factors)


def note_ranks(model: nn.Module) -> None:
    """Tell PEFT which ranks are left, by the singular values that are not zero: PEFT's own note
    is that of the last cut, and values cut then may have grown again since.
    """
    tuner: Any = model.base_model
    config = tuner.peft_config[tuner.trainable_adapter_name]
    config.rank_pattern = {
        name: (parameter.detach().view(-1) != 0).tolist()
        for name, parameter in tuner.model.named_parameters()
        if f"lora_E.{tuner.trainable_adapter_name}" in name
    }


def save_importance(model: nn.Module, folder: Path) -> None:
    """Write the moving averages by which ranks are cut."""
    allocator: Any = model.base_model.rankallocator  # type: ignore[union-attr]
    tensors = {
        f"{kind}/{name}": tensor.contiguous().cpu()
        for kind in _AVERAGES
        for name, tensor in getattr(allocator, kind).items()
    }
    save_file(tensors, folder / FILE)


def load_importance(model: nn.Module, folder: Path) -> None:
    """Read what `save_importance` wrote."""
    tuner: Any = model.base_model
    allocator = tuner.rankallocator
    devices = {name: parameter.device for name, parameter in tuner.model.named_parameters()}
    allocator.reset_ipt()
    for key, tensor in load_file(folder / FILE).items():
        kind, name = key.split("/", 1)
        getattr(allocator, kind)[name] = tensor.to(devices[name])
        # The allocator starts its averages anew for a name that has no last sensitivity.
        allocator.ipt[name] = torch.zeros_like(tensor)
