"""The shapes inside a base model, read from its configuration alone."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel

ALL_LINEAR = "all-linear"


@dataclass(frozen=True, slots=True)
class LinearShape:
    """One linear layer: weight of out_features × in_features."""

    name: str
    in_features: int
    out_features: int

    @property
    def kind(self) -> str:
        """The last part of the name, such as `q_proj`: what target modules are named by."""
        return self.name.rsplit(".", 1)[-1]


def build_skeleton(config: PretrainedConfig) -> PreTrainedModel:
    """The model without memory for its weights (torch's meta device), for its names and shapes."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(deepcopy(config))  # type: ignore[no-untyped-call]
    return model


def list_linears(config: PretrainedConfig) -> list[LinearShape]:
    """Every linear layer but the output layer, which often is the embeddings once more."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    model = build_skeleton(config)
    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    shapes = []
    for name, module in model.named_modules():
        if module is output:
            continue
        if isinstance(module, nn.Linear):
            shapes.append(LinearShape(name, module.in_features, module.out_features))
        elif isinstance(module, Conv1D):  # GPT-2's, stored the other way round
            shapes.append(LinearShape(name, *module.weight.shape))
    return shapes


def list_norms(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every normalisation layer with parameters: (name, module)."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Norm") and any(True for _ in module.parameters(False))
    ]


def find_layers(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The decoder layers: (their name, such as `model.layers`, the list).

    Raises:
        UsageError: the architecture keeps its layers in no list that can be told apart.
    """
    from torch import nn

    depth = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return name, module
    raise UsageError(
        f"the base model ({type(model).__name__}) has no list of {depth} decoder layers: "
        "methods that work layer by layer cannot be used with it"
    )


def expand_targets(config: PretrainedConfig, targets: Sequence[str]) -> list[str]:
    """Target modules as PEFT takes them; `all-linear` is written out, so that what is saved says
    what was trained and the output layer is never in it.
    """
    if ALL_LINEAR in targets:
        return sorted({shape.kind for shape in list_linears(config)})
    return list(targets)


def choose_targets(
    config: PretrainedConfig, targets: Sequence[str], setting: str
) -> list[LinearShape]:
    """The linear layers that `targets` name.

    Args:
        targets: ends of module names (`q_proj`, `self_attn.q_proj`), or `all-linear`.
        setting: its dotted key, for the message.

    Raises:
        UsageError: a name matches no linear layer.
    """
    linears = list_linears(config)
    chosen: dict[str, LinearShape] = {}
    for target in targets:
        found = [shape for shape in linears if _matches(shape.name, target)]
        if not found:
            kinds = ", ".join(sorted({shape.kind for shape in linears}))
            raise UsageError(
                f"setting '{setting}': '{target}' matches no linear layer of the base model; "
                f"it has {kinds} (or write {ALL_LINEAR})"
            )
        chosen |= {shape.name: shape for shape in found}
    return [shape for shape in linears if shape.name in chosen]


def _matches(name: str, target: str) -> bool:
    return target == ALL_LINEAR or name == target or name.endswith(f".{target}")


def check_rank(rank: int, targets: Sequence[LinearShape], setting: str) -> None:
    """Refuse a rank that is no reduction.

    Raises:
        UsageError: it is larger than the smaller dimension of a target.
    """
    least = min(targets, key=lambda shape: min(shape.in_features, shape.out_features))
    bound = min(least.in_features, least.out_features)
    if rank > bound:
        raise UsageError(
            f"setting '{setting}': rank {rank} is larger than the dimension of {least.name} "
            f"({least.out_features} × {least.in_features}); at most {bound} is possible"
        )


_ATTENTION = ("self_attn", "attention", "attn")
_FFN = ("mlp", "feed_forward", "ffn")


def find_sublayers(model: nn.Module) -> list[nn.Module]:
    """Attention and FFN of each layer, from the bottom.

    Raises:
        UsageError: a layer has no part that can be told to be one of the two.
    """
    name, layers = find_layers(model)
    found = []
    for number, layer in enumerate(layers):
        for kinds in (_ATTENTION, _FFN):
            part = next((getattr(layer, kind) for kind in kinds if hasattr(layer, kind)), None)
            if part is None:
                raise UsageError(
                    f"the base model's layer {name}.{number} ({type(layer).__name__}) has none of "
                    f"{', '.join(kinds)}: bottleneck adapters cannot be put into it"
                )
            found.append(part)
    return found


@dataclass(frozen=True, slots=True)
class Parts:
    """Names of a model's parameters, by where they stand; each name is in exactly one set."""

    below: frozenset[str]
    """Embeddings."""
    layers: tuple[frozenset[str], ...]
    """Of each decoder layer, from the bottom."""
    above: frozenset[str]
    """The last norm and an output layer of its own."""


def split_by_depth(model: nn.Module) -> Parts:
    """Which parameters stand below, in and above the decoder layers.

    Raises:
        UsageError: there is no list of decoder layers.
    """
    path, layers = find_layers(model)
    names = [name for name, _ in model.named_parameters()]
    by_layer = tuple(
        frozenset(name for name in names if name.startswith(f"{path}.{number}."))
        for number in range(len(layers))
    )
    others = [name for name in names if not name.startswith(f"{path}.")]
    tops = {name for name, _ in list_norms(model)} | {"lm_head", "embed_out"}
    above = frozenset(name for name in others if name.rsplit(".", 1)[0] in tops)
    return Parts(frozenset(others) - above, by_layer, above)
