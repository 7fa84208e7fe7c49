"""Dropout on what each layer adds to the residual stream, rising from nothing at the first layer to
its full rate at the last (LIMA, arXiv 2305.11206, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

_BRANCHES = ("self_attn", "attn", "attention", "mlp", "feed_forward")


def add_residual_dropout(model: nn.Module, rate: float) -> int:
    """Put dropout behind each branch of each layer; it acts in training only.

    Args:
        rate: of the last layer; 0 changes nothing.

    Returns:
        How many branches got dropout.

    Raises:
        UsageError: the model has no list of layers with such branches.
    """
    if rate == 0:
        return 0
    layers = _layers(model)
    count = 0
    for number, layer in enumerate(layers):
        share = rate * number / max(1, len(layers) - 1)
        for name, branch in layer.named_children():
            if name in _BRANCHES:
                branch.register_forward_hook(_drop(share))
                count += 1
    if not count:
        raise UsageError(
            "training.residual_dropout: this base model's layers have no branches named "
            f"{', '.join(_BRANCHES)}; leave it at 0"
        )
    return count


def _layers(model: Any) -> list[Any]:
    from torch import nn

    depth = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return list(module)
    return []


def _drop(rate: float) -> Any:
    from torch.nn import functional

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if not module.training:
            return output
        if isinstance(output, tuple):
            return (functional.dropout(output[0], rate), *output[1:])
        return functional.dropout(output, rate)

    return hook
