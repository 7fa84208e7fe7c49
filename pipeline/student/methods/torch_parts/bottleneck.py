"""Houlsby's bottleneck adapters as modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from pipeline.student.methods.shapes import find_sublayers, list_norms


class Bottleneck(nn.Module):
    """h + f(h W_down + b_down) W_up + b_up, f being GELU as in the authors' code; in float32
    whatever the model's dtype.
    """

    def __init__(self, width: int, bottleneck: int, deviation: float) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            nn.init.zeros_(linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states of any shape (..., width), same dtype out."""
        change: torch.Tensor = self.up(
            nn.functional.gelu(self.down(hidden.to(self.down.weight.dtype)))
        )
        return hidden + change.to(hidden.dtype)


def insert_adapters(model: PreTrainedModel, bottleneck: int, deviation: float) -> None:
    """Put an adapter behind attention and FFN of each layer and train these and the norms alone.

    An adapter is a child of what it stands behind, applied by a hook: names and classes of the base
    stay as they are.
    """
    model.requires_grad_(False)
    for sublayer in find_sublayers(model):
        adapter = Bottleneck(int(model.config.hidden_size), bottleneck, deviation)
        sublayer.add_module("bottleneck", adapter.to(next(sublayer.parameters()).device))
        sublayer.register_forward_hook(_adapt)
    for _, norm in list_norms(model):
        norm.float().requires_grad_(True)
        norm.register_forward_hook(_restore_dtype)


def _adapt(module: nn.Module, args: Any, output: Any) -> Any:
    adapter: Any = module.bottleneck
    if isinstance(output, tuple):  # attention: (hidden states, weights)
        return (adapter(output[0]), *output[1:])
    return adapter(output)


def _restore_dtype(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
    return output.to(args[0].dtype)
