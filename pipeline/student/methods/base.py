"""What a method of fine-tuning is: one file of this package, one typed group of settings.

A method says which parameters are trained and how they are kept; the trainer owns everything else
(data, loss, optimiser, checkpoints). Its life in a training run:

    check -> load_base -> prepare -> (training, with save_checkpoint / load_checkpoint) -> save

and afterwards, on a fresh base, either `load` (through Transformers) or `merge` (a checkpoint that
vLLM serves). Nothing in this package imports torch before a model is at hand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from pipeline.errors import UsageError
from pipeline.sections import Section

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, TrainerCallback

Serving: TypeAlias = Literal["adapter", "merged", "transformers"]
CHECKPOINT = "trained.safetensors"


class MethodSettings(Section):
    """Settings of one method; frozen, unknown names refused."""


S = TypeVar("S", bound=MethodSettings)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a method may need to know of the training to come."""

    total_steps: int
    """Optimiser steps that the whole training takes."""
    seed: int
    """Seed of the method's random initial values: a resumed run prepares the same model again."""
    warmup_steps: int = 0
    """Optimiser steps in which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be trained: exactly the parameters that require a gradient are trained."""

    model: nn.Module
    callbacks: tuple[TrainerCallback, ...] = ()
    """The method's own part in the training loop; pass them to the trainer."""


class Method(ABC, Generic[S]):
    """One way to fine-tune. Subclasses are stateless; the settings come with every call."""

    name: ClassVar[str]
    """In `--method`, in the settings (`methods.NAME`) and in reports."""
    settings_type: type[S]
    learning_rate: ClassVar[float]
    """Where `training.learning_rate` is unset. Each method's file says where it is from."""
    trains_base: ClassVar[bool] = False
    """Parameters of the base itself are trained: load it in float32 and let autocast compute in
    bfloat16, which has too few bits to hold small updates. Adapters keep float32 by themselves."""
    allows_packing: ClassVar[bool] = True
    """False where something stands before the first token of each row (virtual tokens, prefixes):
    of packed rows only the first would see it."""
    allows_gradient_checkpointing: ClassVar[bool] = True
    """False where the method hands keys and values to the model, which checkpointing drops."""
    kept_inputs: ClassVar[float] = 1.0
    """For the estimate of memory: copies of each adapted matrix's input that the backward pass reads,
    in the computation's type. Such figures of the methods are measured on an H200 and explained by
    what PEFT computes (benchmarks/README.md)."""
    kept_outputs: ClassVar[float] = 0.0
    """Copies of each adapted matrix's output."""
    kept_weights: ClassVar[float] = 0.0
    """Copies of each adapted matrix itself, where its change is made as large as it is."""
    changes_trained: ClassVar[bool] = False
    """The set of trained parameters changes in training: several processes need
    `ddp_find_unused_parameters`."""

    @abstractmethod
    def serving(self, settings: S) -> Serving:
        """How vLLM can have the student: as a LoRA `adapter` beside its base, as a `merged`
        checkpoint, or not at all (`transformers`).
        """

    def reserved_positions(self, settings: S) -> int:
        """Positions of the base's context that the method takes for itself."""
        return 0

    def check(self, config: PretrainedConfig, settings: S, device: str) -> None:
        """Refuse, before any weights are read, what this base model or device cannot do.

        Args:
            config: the base model's.
            device: `cpu` or `cuda`.

        Raises:
            UsageError: names the setting, what is wrong and what would be right.
        """

    def check_steps(self, settings: S, total_steps: int) -> None:
        """Refuse a training that is too short for the method.

        Args:
            total_steps: optimiser steps that the whole training takes.

        Raises:
            UsageError: says how many steps there are and what would be right.
        """

    def optimizer(self, settings: S) -> str | None:
        """The `TrainingArguments.optim` that the method asks for; None: the trainer's own."""
        return None

    def load_base(
        self, folder: Path, dtype: str | torch.dtype, settings: S, **options: Any
    ) -> PreTrainedModel:
        """The base model to train on.

        Args:
            options: passed on to `from_pretrained` (`attn_implementation` ...).
        """
        return load_causal_model(folder, dtype, **options)

    @abstractmethod
    def prepare(self, model: PreTrainedModel, settings: S, plan: Plan) -> Prepared:
        """Freeze what is not trained and put in what is; `model` is changed in place. The plan has
        passed `check_steps`.
        """

    @abstractmethod
    def count_parameters(self, config: PretrainedConfig, settings: S) -> int:
        """How many parameters are trained, by formula; no weights are read."""

    @abstractmethod
    def save(self, model: nn.Module, folder: Path, base_folder: Path) -> None:
        """Write the trained student, without its base; `folder` is made, `model` is unchanged."""

    @abstractmethod
    def load(self, base_model: PreTrainedModel, folder: Path, settings: S) -> nn.Module:
        """The student for inference, from what `save` wrote; `base_model` is used up."""

    @abstractmethod
    def merge(self, base_model: PreTrainedModel, folder: Path, settings: S) -> PreTrainedModel:
        """The student as an ordinary model of the base's architecture.

        Args:
            base_model: an unquantised base (`load_causal_model`); it is used up.

        Raises:
            UsageError: the method cannot be merged.
        """

    def save_checkpoint(self, model: nn.Module, folder: Path) -> None:
        """Write what a killed training needs to go on: the trained parameters as they are (`save`
        may convert, prune or leave out what is needed for training only), in `folder`.
        """
        write_tensors({n: p for n, p in model.named_parameters() if p.requires_grad}, folder)

    def load_checkpoint(self, model: nn.Module, folder: Path) -> None:
        """Put what `save_checkpoint` wrote into a model that `prepare` has made anew.

        Raises:
            UsageError: the checkpoint is of another model or method.
        """
        from safetensors.torch import load_file

        copy_tensors(model, load_file(folder / CHECKPOINT), folder / CHECKPOINT)


def load_causal_model(folder: Path, dtype: str | torch.dtype, **options: Any) -> PreTrainedModel:
    """A causal language model from a local folder, in evaluation mode.

    Raises:
        UsageError: there is no model in the folder.
    """
    from transformers import AutoModelForCausalLM

    if not (folder / "config.json").is_file():
        raise UsageError(f"base model {folder}: there is no config.json; name a model's folder")
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, **options
        )
    except (OSError, ValueError) as exc:
        raise UsageError(f"base model {folder} cannot be loaded: {exc}") from exc
    return model


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from `seed` inside, and leave the generators as they were."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def write_tensors(tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write named tensors, as they are, as a checkpoint of `folder`."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    save_file(plain, folder / CHECKPOINT)


def copy_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    """Copy named tensors into the parameters of those names, in the parameters' dtype.

    Raises:
        UsageError: a name or a shape is not the model's; nothing was copied.
    """
    import torch

    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        have = tuple(parameters[name].shape) if name in parameters else "none"
        if have != tuple(tensor.shape):
            raise UsageError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, the model's is {have}: "
                "it was trained on another base model or with other settings"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)
