"""Training a student: what stands in a run directory, from its manifest to its adapter.

`train` may be called again on the same directory at any time: it goes on from the last checkpoint, or
begins. Weights, optimiser, schedule, random numbers and the order of the batches are those that an
uninterrupted training would have had.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import EvoloomError
from pipeline.student.allocator import return_freed_blocks
from pipeline.student.batching import EpochSampler
from pipeline.student.encoding import EncodedSet, encode_examples, join_packed, pack_rows
from pipeline.student.launching import rank, world_size
from pipeline.student.methods import get_method
from pipeline.student.methods.base import Method, MethodSettings, Plan
from pipeline.student.quiet import quieten
from pipeline.student.records import read_examples
from pipeline.student.schedule import count_steps, make_schedule, steps_in_epoch
from pipeline.student.settings import TrainingSettings
from pipeline.student.trained import (
    ADAPTER,
    CHECKPOINTS,
    LOGS,
    METRICS,
    RESULT,
    TrainingRecord,
    load_tokenizer,
    read_training,
    write_json,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROGRESS = "progress.jsonl"
BEST = "best"


@dataclass(frozen=True, slots=True)
class TrainingEnd:
    """How a training ended; an interrupted one goes on when `train` is called again."""

    state: Literal["completed", "interrupted"]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Data:
    """What is trained on: one list of token ids and labels for each row of a batch."""

    train: EncodedSet
    held_out: EncodedSet
    rows: list[dict[str, list[int]]]
    tokenizer: PreTrainedTokenizerBase


def train(
    run_dir: Path,
    settings: TrainingSettings,
    *,
    should_stop: Callable[[], str | None] = lambda: None,
    on_record: Callable[[dict[str, Any]], None] = lambda record: None,
    progress_interval_s: float = 2.0,
) -> TrainingEnd:
    """Train, or go on training, the student of a run directory.

    Args:
        settings: the manifest's, with operational ones as they are set now.
        should_stop: asked after each step, where a reason ends the training with a checkpoint, and
            while the base is measured.
        on_record: told each progress record.

    Raises:
        UsageError: the run directory or the base model cannot be read.
        EvoloomError: the loss is no number any more, or the disk is full.
    """
    record = read_training(run_dir)
    if (run_dir / RESULT).exists():
        return TrainingEnd("completed")
    quieten()
    try:
        return _Training(record, settings, should_stop, on_record, progress_interval_s).run()
    except _StoppedError as exc:
        return TrainingEnd("interrupted", str(exc))
    except OSError as exc:
        raise EvoloomError(
            f"training {record.run_id}: writing to {run_dir} failed ({exc.strerror or exc}); make "
            f"room, then `evoloom resume {record.run_id}` goes on from the last checkpoint"
        ) from exc


class _StoppedError(Exception):
    """Asked to stop while the base was measured, before there is a step to stop after."""


class _Training:
    def __init__(
        self,
        record: TrainingRecord,
        settings: TrainingSettings,
        should_stop: Callable[[], str | None],
        on_record: Callable[[dict[str, Any]], None],
        interval_s: float,
    ) -> None:
        self._record = record
        self._settings = settings
        self._should_stop = should_stop
        self._on_record = on_record
        self._interval_s = interval_s
        self._method: Method[Any] = get_method(record.method)
        self._method_settings: MethodSettings = self._method.settings_type(**record.method_settings)
        self._root = record.run_dir / CHECKPOINTS
        self._root.mkdir(exist_ok=True)

    def run(self) -> TrainingEnd:
        import torch
        from transformers import PrinterCallback

        from pipeline.student import loop, reporting
        from pipeline.student.peak import PeakMemory, device_name

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu" and self._settings.gradient_checkpointing:
            return_freed_blocks()  # whoever computes layers twice is short of memory, not of time
        data = self._encode()
        checkpoints = loop.list_checkpoints(self._root)
        resumed = checkpoints[-1] if checkpoints else None
        is_first = rank() == 0
        metrics_path = self._record.run_dir / METRICS
        with PeakMemory(device) as peak:
            base = self._load_base(device)
            base_loss = self._base_loss(base, data, metrics_path)
            steps = count_steps(len(data.rows), self._settings, world_size())
            warmup = math.ceil(self._settings.warmup * steps)
            plan = Plan(steps, self._record.run_seed, warmup)
            prepared = self._method.prepare(base, self._method_settings, plan)
            trainer = loop.StudentTrainer(
                model=prepared.model,
                args=self._arguments(device, len(data.rows)),
                train_dataset=_dataset(data.rows),
                eval_dataset=_dataset(data.rows[:1]),  # asked for; `evaluate` takes `held_out`
                processing_class=data.tokenizer,
                data_collator=_collator(data.tokenizer, packed=self._settings.packing),
                callbacks=list(prepared.callbacks),
                method=self._method,
                held_out=data.held_out.rows,
                sampler=EpochSampler(
                    [len(row["input_ids"]) for row in data.rows],
                    self._settings.batch_size,
                    self._record.run_seed,
                    by_length=self._settings.by_length,
                ),
                schedule=make_schedule(self._settings, self._rate(), steps, warmup),
                keep_checkpoints=self._settings.keep_checkpoints,
            )
            trainer.remove_callback(PrinterCallback)
            stopper = reporting.Stopper(self._should_stop, trainer.accelerator)
            trainer.add_callback(stopper)
            early = None
            if self._settings.early_stopping is not None:
                early = reporting.EarlyStop(
                    self._settings.early_stopping, lambda: self._keep_best(trainer)
                )
                trainer.add_callback(early)
            reporter = None
            if is_first:
                metrics = reporting.MetricsFile(
                    metrics_path, loop.step_of(resumed) if resumed else 0
                )
                reporter = reporting.Reporter(
                    metrics, self._record.run_dir / PROGRESS,
                    lambda: (trainer.tokens, trainer.trained_tokens), peak, self._interval_s,
                    self._on_record, base_loss,
                )  # fmt: skip
                trainer.add_callback(reporter)
            started = time.monotonic()
            state = loop.read_state(resumed) if resumed else None
            # Ended between its last step, or that after which it stopped early, and its result.
            is_done = state is not None and (
                state.global_step >= steps or (early is not None and early.is_exhausted(state))
            )
            if resumed is not None and is_done:
                trainer.restore(resumed)
            else:
                trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
            trained_s = time.monotonic() - started
            if stopper.reason is not None:
                if reporter:
                    reporter.record(trainer.state, "interrupted", stopper.reason)
                return TrainingEnd("interrupted", stopper.reason)
            if early is not None and (self._root / BEST).exists():
                self._method.load_checkpoint(prepared.model, self._root / BEST)
                tuned_loss = float(trainer.state.best_metric or math.nan)
            else:
                tuned_loss = _last_loss(trainer)
            self._check_finite(tuned_loss)
            if is_first:
                self._finish(
                    prepared.model,
                    {
                        "base_held_out_loss": base_loss,
                        "held_out_loss": tuned_loss,
                        "steps": trainer.state.global_step,
                        "total_steps": steps,
                        "stopped_early": bool(early and early.stopped),
                        "epochs": trainer.state.epoch,
                        "peak_memory_bytes": peak.read(),
                        "device": device_name(device),
                        "processes": world_size(),
                        "dtype": self._record.dtype,
                        "trainable_parameters": _count(prepared.model, trained_only=True),
                        "parameters": _count(prepared.model, trained_only=False),
                        "train_examples": len(data.train.rows),
                        "held_out_examples": len(data.held_out.rows),
                        "truncated": data.train.truncated + data.held_out.truncated,
                        "dropped": data.train.dropped + data.held_out.dropped,
                        "tokens_per_epoch": data.train.tokens,
                        "trained_tokens_per_epoch": data.train.trained_tokens,
                        "tokens_per_s": round(trainer.tokens / trained_s, 1) if trained_s else None,
                        "trained_tokens_per_s": round(trainer.trained_tokens / trained_s, 1),
                        "resumed_at_step": loop.step_of(resumed) if resumed else None,
                    },
                )
                if reporter:
                    reporter.record(trainer.state, "completed")
            trainer.accelerator.wait_for_everyone()
        return TrainingEnd("completed")

    def _encode(self) -> _Data:
        record, settings = self._record, self._settings
        tokenizer = load_tokenizer(record.base_folder)
        train, held_out = (
            encode_examples(
                tokenizer,
                record.template,
                read_examples(path),
                record.max_length,
                settings.too_long,
            )
            for path in (record.train_path, record.held_out_path)
        )
        rows = (
            [join_packed(row) for row in pack_rows(train.rows, record.max_length)]
            if settings.packing
            else [{"input_ids": row.input_ids, "labels": row.labels} for row in train.rows]
        )
        return _Data(train, held_out, rows, tokenizer)

    def _load_base(self, device: str) -> Any:
        import torch

        from pipeline.student.residual_dropout import add_residual_dropout

        dtype = torch.float32 if self._method.trains_base else getattr(torch, self._record.dtype)
        options = {"attn_implementation": "flash_attention_2"} if self._settings.packing else {}
        base: Any = self._method.load_base(
            self._record.base_folder, dtype, self._method_settings, **options
        )
        if device == "cuda" and not getattr(base, "hf_device_map", None):
            base.to(device)
        add_residual_dropout(base, self._settings.residual_dropout)
        return base

    def _base_loss(self, base: Any, data: _Data, metrics: Path) -> float | None:
        """The base's own loss on what is held out, measured once; kept beside the metrics."""
        from pipeline.student.loop import held_out_loss

        path = metrics.with_name("base.json")
        if path.exists():
            return float(json.loads(path.read_text())["held_out_loss"])
        if rank() != 0:
            return None

        def between() -> None:
            # Of several processes the others already wait for this one: it may not leave them.
            if world_size() == 1 and (reason := self._should_stop()) is not None:
                raise _StoppedError(reason)

        loss = held_out_loss(
            base, data.held_out.rows, self._settings.batch_size, data.tokenizer.pad_token_id,
            autocast=self._record.dtype == "bfloat16", between=between,
        )  # fmt: skip
        write_json(path, {"held_out_loss": loss})
        return loss

    def _rate(self) -> float:
        return self._settings.learning_rate or self._method.learning_rate

    def _arguments(self, device: str, rows: int) -> Any:
        from trl.trainer.sft_config import SFTConfig

        settings = self._settings
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(self._record.run_dir / LOGS)
        return SFTConfig(
            output_dir=str(self._root),
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.accumulation,
            num_train_epochs=settings.epochs,
            max_steps=settings.max_steps or -1,
            learning_rate=self._rate(),
            optim=self._method.optimizer(self._method_settings) or "adamw_torch",
            weight_decay=settings.weight_decay,
            adam_beta1=settings.adam_beta1,
            adam_beta2=settings.adam_beta2,
            max_grad_norm=settings.max_grad_norm,
            bf16=self._record.dtype == "bfloat16",
            use_cpu=device == "cpu",
            gradient_checkpointing=settings.gradient_checkpointing,
            logging_strategy="steps",
            logging_steps=1,
            save_strategy="steps",
            save_steps=settings.save_every,
            # By steps too where it is after each epoch: measured before the checkpoint of the same
            # step, so that a resume never leaves a measurement out.
            eval_strategy="steps",
            eval_steps=settings.evaluate_every or steps_in_epoch(rows, settings, world_size()),
            metric_for_best_model="loss",
            greater_is_better=False,
            seed=self._record.run_seed % 2**32,
            report_to=list(settings.report_to),
            run_name=self._record.run_id,
            project=self._record.run_id,
            disable_tqdm=True,
            log_level="error",
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            dataloader_pin_memory=device == "cuda",
            ddp_find_unused_parameters=self._method.changes_trained or None,
        )

    def _keep_best(self, trainer: Any) -> None:
        from pipeline.student.loop import make_durable

        if not trainer.args.should_save:
            return
        temporary = self._root / f".{BEST}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        self._method.save_checkpoint(trainer.accelerator.unwrap_model(trainer.model), temporary)
        make_durable(temporary)
        shutil.rmtree(self._root / BEST, ignore_errors=True)
        temporary.rename(self._root / BEST)

    def _check_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise EvoloomError(
                f"training {self._record.run_id}: the held-out loss is {loss}: the training has "
                f"diverged. A lower training.learning_rate than {self._rate():g} is the first thing "
                "to try, in a new run"
            )

    def _finish(self, model: Any, result: Mapping[str, Any]) -> None:
        from pipeline.student.loop import make_durable

        temporary = self._record.run_dir / f".{ADAPTER}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        self._method.save(model, temporary, self._record.base_folder)
        make_durable(temporary)
        shutil.rmtree(self._record.adapter_dir, ignore_errors=True)
        temporary.rename(self._record.adapter_dir)
        write_json(self._record.run_dir / RESULT, result)
        shutil.rmtree(self._root, ignore_errors=True)  # nothing goes on from them any more


def _dataset(rows: list[dict[str, list[int]]]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows)


def _collator(tokenizer: PreTrainedTokenizerBase, *, packed: bool) -> Any:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id, padding_free=packed)


def _last_loss(trainer: Any) -> float:
    """The held-out loss after the last step, measured now if the loop has not."""
    for entry in reversed(trainer.state.log_history):
        if entry["step"] == trainer.state.global_step and "eval_loss" in entry:
            return float(entry["eval_loss"])
    return float(trainer.evaluate()["eval_loss"])


def _count(model: Any, *, trained_only: bool) -> int:
    return sum(
        parameter.numel()
        for parameter in model.parameters()
        if parameter.requires_grad or not trained_only
    )
