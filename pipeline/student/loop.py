"""TRL's SFTTrainer with what evoloom needs of it: batches that a resume repeats, a loss computed where
there are labels, checkpoints that are whole or absent, a held-out loss that counts tokens.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from transformers import Trainer, TrainerState
from trl.trainer.sft_trainer import SFTTrainer

from pipeline.student.batching import EpochSampler
from pipeline.student.formatting import IGNORED, Encoded
from pipeline.student.methods.base import Method

if TYPE_CHECKING:
    from torch import nn

STATE = "trainer_state.json"
_NAME = "step-"


class StudentTrainer(SFTTrainer):
    """One training. The dataset comes as token ids and labels."""

    def __init__(
        self,
        *arguments: Any,
        method: Method[Any],
        held_out: Sequence[Encoded],
        sampler: EpochSampler,
        schedule: Callable[[int], float],
        keep_checkpoints: int,
        **named: Any,
    ) -> None:
        """
        Args:
            held_out: what the loss is measured on, apart from the training data.
            schedule: from the number of steps taken to the share of the peak learning rate.
            keep_checkpoints: how many are kept beside the latest.
        """
        self._method = method
        self._held_out = held_out
        self._sampler = sampler
        self._schedule = schedule
        self._keep_checkpoints = keep_checkpoints
        self.tokens = 0
        """Tokens computed since this process began, without padding."""
        self.trained_tokens = 0
        """Those that the loss was taken on."""
        super().__init__(*arguments, **named)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._sampler

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the settings, on whichever optimiser the method asked for."""
        chosen: Any = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, self._schedule)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The mean loss over response tokens, of the whole accumulated batch."""
        mask = inputs.get("attention_mask")
        self.tokens += int(inputs["input_ids"].numel() if mask is None else mask.sum())
        self.trained_tokens += int((inputs["labels"][:, 1:] != IGNORED).sum())
        if inputs["input_ids"].device.type == "cuda":
            # TRL's kernel never holds the logits as a whole.
            fused: Any = super().compute_loss
            return fused(model, inputs, return_outputs, num_items_in_batch)
        total, count = loss_sum(model, self._bare(model), inputs)
        items = count if num_items_in_batch is None else num_items_in_batch
        # Gradients are averaged over the processes, and the items are those of all of them.
        scale = 1 if num_items_in_batch is None else self.accelerator.num_processes
        return total * scale / torch.as_tensor(items).clamp(min=1)

    def evaluate(self, *unused: Any, metric_key_prefix: str = "eval", **named: Any) -> Any:
        """The mean loss over all response tokens held out; every process computes its part."""
        model = self._bare(self.model)
        tokenizer: Any = self.processing_class
        loss = held_out_loss(
            model, self._held_out, self.args.eval_batch_size, tokenizer.pad_token_id,
            self.accelerator, autocast=self.args.bf16,
        )  # fmt: skip
        metrics = {f"{metric_key_prefix}_loss": loss}
        Trainer.log(self, dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Without TRL's token metrics, which cost a pass over the logits."""
        Trainer.log(self, logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Appears under its name complete or not at all."""
        root = Path(str(self.args.output_dir))
        target = root / f"{_NAME}{self.state.global_step}"
        temporary = root / f".{target.name}.tmp"
        if self.args.should_save:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            self._method.save_checkpoint(self._bare(self.model), temporary)
        self.accelerator.wait_for_everyone()
        self._save_optimizer_and_scheduler(str(temporary))
        self._save_scaler(str(temporary))
        self._save_rng_state(str(temporary))
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self.state.save_to_json(str(temporary / STATE))
            make_durable(temporary)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
            for old in list_checkpoints(root)[: -self._keep_checkpoints - 1]:
                shutil.rmtree(old, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._method.load_checkpoint(self._bare(self.model), Path(resume_from_checkpoint))

    def restore(self, checkpoint: Path) -> None:
        """Take over a checkpoint after which there is nothing to train."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = read_state(checkpoint)

    def _bare(self, model: Any) -> nn.Module:
        bare: nn.Module = self.accelerator.unwrap_model(model)
        return bare


def loss_sum(
    model: Any, bare: nn.Module, inputs: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The summed loss of a batch and how many tokens it is of; the output layer computes only those
    positions that have a label, a third of them in usual data.

    Args:
        model: what is called, perhaps wrapped for several processes.
        bare: the model itself.
    """
    labels = inputs["labels"][:, 1:]
    mask = labels != IGNORED
    passed = {name: value for name, value in inputs.items() if name != "labels"}
    with _only_where(bare, mask):
        logits = model(**passed, use_cache=False).logits
    targets = labels[mask]
    return functional.cross_entropy(logits.float(), targets, reduction="sum"), mask.sum()


@contextmanager
def _only_where(model: Any, mask: torch.Tensor) -> Iterator[None]:
    """Hand the output layer only the hidden states that predict a token under the mask."""

    def select(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0]
        # Virtual tokens stand before the prompt; the last position predicts nothing.
        before = hidden.shape[1] - mask.shape[1] - 1
        return (hidden[:, before:-1][mask], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def held_out_loss(
    model: nn.Module,
    rows: Sequence[Encoded],
    batch_size: int,
    pad_id: int,
    accelerator: Any = None,
    *,
    autocast: bool = False,
    between: Callable[[], None] = lambda: None,
) -> float:
    """Mean loss over all response tokens; longest rows first, so that little is padded.

    Args:
        accelerator: where several processes share the work; None: this one does all of it.
        autocast: compute in bfloat16 what is not kept in it.
        between: called before each batch; what it raises ends the measurement.
    """
    device = next(model.parameters()).device
    order = sorted(rows, key=lambda row: -len(row.input_ids))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if accelerator is not None:
        batches = batches[accelerator.process_index :: accelerator.num_processes]
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    was_training = model.training
    model.train(mode=False)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        for batch in batches:
            between()
            inputs = {name: value.to(device) for name, value in pad_batch(batch, pad_id).items()}
            total, count = loss_sum(model, model, inputs)
            sums += torch.stack([total.double(), count.double()])
    model.train(mode=was_training)
    if accelerator is not None:
        sums = accelerator.reduce(sums, "sum")
    return float(sums[0] / sums[1])


def pad_batch(rows: Sequence[Encoded], pad_id: int) -> dict[str, torch.Tensor]:
    """Rows as tensors of the longest one's length, padded at the end."""
    length = max(len(row.input_ids) for row in rows)
    padding = [length - len(row.input_ids) for row in rows]
    pairs = list(zip(rows, padding, strict=True))
    return {
        "input_ids": torch.tensor([row.input_ids + [pad_id] * more for row, more in pairs]),
        "labels": torch.tensor([row.labels + [IGNORED] * more for row, more in pairs]),
        "attention_mask": torch.tensor(
            [[1] * len(row.input_ids) + [0] * more for row, more in pairs]
        ),
    }


def list_checkpoints(root: Path) -> list[Path]:
    """Whole checkpoints, the oldest first."""
    found = [path for path in root.glob(f"{_NAME}*") if path.name.removeprefix(_NAME).isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was made after."""
    return int(checkpoint.name.removeprefix(_NAME))


def read_state(checkpoint: Path) -> TrainerState:
    """The trainer's state at a checkpoint."""
    state: TrainerState = TrainerState.load_from_json(str(checkpoint / STATE))
    return state


def make_durable(folder: Path) -> None:
    """Bring a folder's files to the disk."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
