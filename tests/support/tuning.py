"""Tuning a method for a few steps with the real trainer, on rows of random tokens."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from pipeline.student.methods import Method, MethodSettings, Plan, Prepared

ROWS, LENGTH = 2, 16
Tensors = dict[str, torch.Tensor]


def draw_rows(vocabulary: int) -> torch.Tensor:
    """Random token ids, rows × length, always the same."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(3, vocabulary, (ROWS, LENGTH), generator=generator)


def copy_parameters(model: nn.Module) -> Tensors:
    """Copies of all parameters by name."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(before: Tensors, after: Tensors) -> set[str]:
    """Names of those that are not the same bits."""
    return {name for name in before if not torch.equal(before[name], after[name])}


def trained_names(model: nn.Module) -> set[str]:
    return {name for name, value in model.named_parameters() if value.requires_grad}


def read_logits(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Logits at the rows' own positions, without dropout."""
    was_training = model.training
    model.train(mode=False)
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=rows).logits[:, -rows.shape[1] :]
    model.train(was_training)
    return logits


def compute_loss(logits: torch.Tensor, rows: torch.Tensor) -> float:
    """The mean loss of the rows as their own labels."""
    predictions = logits[:, :-1].flatten(0, 1)
    return nn.functional.cross_entropy(predictions, rows[:, 1:].flatten()).item()


@dataclass
class Tuned:
    """A student before and after its steps."""

    base: PreTrainedModel
    """Untouched."""
    model: nn.Module
    settings: MethodSettings
    plan: Plan
    rows: torch.Tensor
    start: Tensors
    start_logits: torch.Tensor


def prepare(
    method: Method[Any], base: PreTrainedModel, steps: int = 4, **settings: Any
) -> tuple[Tuned, Prepared]:
    """A copy of `base` as the method prepares it, not trained yet."""
    values = method.settings_type(**settings)
    method.check(base.config, values, "cpu")
    plan = Plan(steps, seed=11)
    prepared = method.prepare(deepcopy(base), values, plan)
    model, rows = prepared.model, draw_rows(base.config.vocab_size)
    start = copy_parameters(model)
    return Tuned(base, model, values, plan, rows, start, read_logits(model, rows)), prepared


def train(
    tuned: Tuned,
    folder: Path,
    learning_rate: float,
    callbacks: Iterable[TrainerCallback] = (),
) -> None:
    """Take the plan's steps, all on the same rows, with AdamW."""
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"), use_cpu=True, report_to="none", save_strategy="no",
        logging_strategy="no", disable_tqdm=True, seed=3, dataloader_pin_memory=False,
        max_steps=tuned.plan.total_steps, per_device_train_batch_size=ROWS,
        learning_rate=learning_rate, lr_scheduler_type="constant", remove_unused_columns=False,
    )  # fmt: skip
    data = [{"input_ids": row, "labels": row} for row in tuned.rows]
    Trainer(
        model=tuned.model, args=arguments, train_dataset=data, callbacks=list(callbacks)
    ).train()


def tune(
    method: Method[Any],
    base: PreTrainedModel,
    folder: Path,
    *,
    steps: int = 4,
    learning_rate: float = 5e-3,
    callbacks: Iterable[TrainerCallback] = (),
    **settings: Any,
) -> Tuned:
    """Prepare a copy of `base` and train it."""
    tuned, prepared = prepare(method, base, steps, **settings)
    train(tuned, folder, learning_rate, [*prepared.callbacks, *callbacks])
    return tuned
