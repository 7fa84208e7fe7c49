"""What a training says while it goes on: metrics for the store, progress for people, and the stop
that a signal asks for. Nothing of the training depends on the reports."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pipeline.student.peak import PeakMemory

_RATE_STEPS = 20
Tokens = Callable[[], tuple[int, int]]
"""Tokens computed since the process began: all, and those trained on."""


class MetricsFile:
    """`metrics.jsonl`: one line for each logged step or measurement. A resume forgets what came after
    its checkpoint, which is computed again."""

    def __init__(self, path: Path, resumed_step: int) -> None:
        self._path = path
        kept = [line for line in read_metrics(path) if line["step"] <= resumed_step]
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        os.replace(temporary, path)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"at": _now(), **line}) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; a file that is not there has none."""
    try:
        lines = path.read_text("utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # a kill's
            continue
    return found


class Reporter(TrainerCallback):
    """Follows the trainer: metrics after each logged step, progress every few seconds."""

    def __init__(
        self,
        metrics: MetricsFile,
        progress: Path,
        tokens: Tokens,
        peak: PeakMemory,
        interval_s: float,
        on_record: Callable[[dict[str, Any]], None],
        base_loss: float | None,
    ) -> None:
        self._metrics = metrics
        self._progress = progress
        self._tokens = tokens
        self._peak = peak
        self._interval_s = interval_s
        self._on_record = on_record
        self._loss: float | None = None
        self._held_out_loss = base_loss
        self._began = self._last_record = time.monotonic()
        self._first_step = 0
        self._last_rates = (0.0, 0.0)
        self._recent: deque[tuple[float, int, int]] = deque(maxlen=_RATE_STEPS + 1)

    def on_train_begin(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._first_step = state.global_step
        self._began = time.monotonic()
        self._recent.append((self._began, *self._tokens()))
        self.record(state, "running")

    def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> None:
        self._recent.append((time.monotonic(), *self._tokens()))
        if time.monotonic() - self._last_record >= self._interval_s:
            self.record(state, "running")

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **unused: Any) -> None:
        if "loss" not in logs:
            return
        self._loss = logs["loss"]
        rate, trained_rate = self._rates()
        self._metrics.write({
            "step": state.global_step, "epoch": state.epoch, "loss": logs["loss"],
            "learning_rate": logs.get("learning_rate"), "grad_norm": logs.get("grad_norm"),
            "tokens_per_s": rate, "trained_tokens_per_s": trained_rate,
            "peak_memory_bytes": self._peak.read(),
        })  # fmt: skip

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **unused: Any
    ) -> None:
        self._held_out_loss = metrics["eval_loss"]
        self._metrics.write(
            {"step": state.global_step, "epoch": state.epoch, "held_out_loss": metrics["eval_loss"]}
        )
        # The time that a measurement takes is no part of the training's rate.
        self._recent.clear()
        self._recent.append((time.monotonic(), *self._tokens()))
        self.record(state, "running")

    def record(self, state: Any, name: str, reason: str | None = None) -> None:
        """Write one progress record and show it."""
        now = time.monotonic()
        self._last_record = now
        done = state.global_step - self._first_step
        left = state.max_steps - state.global_step
        elapsed = now - self._began
        record = {
            "at": _now(),
            "state": name,
            "reason": reason,
            "elapsed_s": round(elapsed, 1),
            "remaining_s": round(elapsed / done * left, 1) if done else None,
            "share_done": round(state.global_step / state.max_steps, 6) if state.max_steps else 0.0,
            "step": state.global_step,
            "steps": state.max_steps,
            "epoch": round(state.epoch or 0.0, 3),
            "loss": self._loss,
            "held_out_loss": self._held_out_loss,
            "tokens_per_s": self._rates()[0],
        }
        record["text"] = describe(record)
        with self._progress.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._on_record(record)

    def _rates(self) -> tuple[float, float]:
        if len(self._recent) < 2:
            return self._last_rates
        (since, tokens, trained), (now, tokens_now, trained_now) = self._recent[0], self._recent[-1]
        span = max(now - since, 1e-9)
        self._last_rates = (
            round((tokens_now - tokens) / span, 1),
            round((trained_now - trained) / span, 1),
        )
        return self._last_rates


class Stopper(TrainerCallback):
    """Ends the training after the step at hand, with a checkpoint, when it is told to; all processes
    of one training agree on the step."""

    def __init__(self, asked: Callable[[], str | None], accelerator: Any) -> None:
        """
        Args:
            asked: why the training is to stop; None while it is not.
        """
        self._asked = asked
        self._accelerator = accelerator
        self.reason: str | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **unused: Any) -> Any:
        reason = self._asked()
        if self._accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            reason = broadcast_object_list([reason])[0]
        if reason is not None and state.global_step < state.max_steps:
            self.reason = reason
            control.should_save = control.should_training_stop = True
        return control


class EarlyStop(TrainerCallback):
    """Keeps the student with the best held-out loss, and stops when there was none better for some
    measurements. What it knows stands in the trainer's own log, so that a resume knows it too."""

    def __init__(self, patience: int, keep_best: Callable[[], None]) -> None:
        self._patience = patience
        self._keep_best = keep_best
        self.stopped = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **unused: Any) -> Any:
        if _since_best(state) == 0:
            self._keep_best()
        if self.is_exhausted(state):
            control.should_training_stop = True
        return control

    def is_exhausted(self, state: Any) -> bool:
        """Whether a training ends here, or had ended at the checkpoint that it goes on from."""
        self.stopped = _since_best(state) >= self._patience and state.global_step < state.max_steps
        return self.stopped


def _since_best(state: Any) -> int:
    """Measurements since the best one."""
    losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def describe(record: Mapping[str, Any]) -> str:
    """A progress record on one line."""
    loss, held_out = (
        "-" if value is None else f"{value:.4f}"
        for value in (record["loss"], record["held_out_loss"])
    )
    text = (
        f"[{_duration(record['elapsed_s'])}] step {record['step']}/{record['steps']}  epoch "
        f"{record['epoch']:.2f}  loss {loss}  held-out {held_out}  {record['tokens_per_s']:.0f} tok/s"
        f"  remaining {_duration(record['remaining_s'])}"
    )
    if record["state"] != "running":
        text += f"  {record['state']}"
        text += f": {record['reason']}" if record["reason"] else ""
    return text


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
