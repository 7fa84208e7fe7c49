"""The steps of a nightly as processes of this machine, without Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows.command_child import CommandFollower
from flows.execution import exit_code
from flows.nightly import StepEnd, StepOrder, StepState
from flows.parameters import (
    curate_arguments,
    evaluate_arguments,
    recipe_file,
    resolve_parameters,
    train_arguments,
)
from flows.prefect_report import ending
from flows.runs import Listener
from flows.supervision import Supervisor
from pipeline.errors import EvoloomError
from pipeline.run.driver import RunEnd
from store.run_directory import runs_directory


@dataclass(frozen=True, slots=True)
class ProcessSteps:
    """Executes each step in a child process, which is stopped with grace when this one is told to."""

    listener: Listener

    def __call__(self, order: StepOrder) -> StepEnd:
        """Execute a step to its end; one that was begun is gone on with."""
        try:
            if order.step in ("self-instruct", "evol-instruct"):
                return self._run(order)
            return self._command(order)
        except EvoloomError as exc:
            return failed(order, exc)

    def _run(self, order: StepOrder) -> StepEnd:
        settings = resolve_parameters(order.settings)
        end = Supervisor(order.step, order.run_id, settings, self.listener).run()
        text = ending(settings.store.path, order.run_id, end)
        return StepEnd(state_of(end), order.run_id, text, exit_code(end))

    def _command(self, order: StepOrder) -> StepEnd:
        runs_dir = runs_directory(order.store_path)
        folder = runs_dir / f"{order.run_id}.flow"
        progress = runs_dir / order.run_id / "progress.jsonl"
        if order.step == "curate":
            progress = folder / "progress.jsonl"
        follower = CommandFollower(
            _arguments(order), folder, self.listener, progress=progress,
            grace_s=resolve_parameters(order.settings).run.grace_s,
        )  # fmt: skip
        end = follower.run()
        error = end.error()
        if error is not None:
            code = 130 if end.exit_code == 130 else error.exit_code
            state: StepState = "interrupted" if end.is_interrupted else "failed"
            return StepEnd(state, order.run_id, str(error), code)
        made = (end.result or {})["run_id"] if order.step == "curate" else order.run_id
        return StepEnd("completed", made)


def _arguments(order: StepOrder) -> Sequence[str]:
    source, settings = str(order.source), order.settings
    if order.step == "curate":
        step = order.profile.curate
        folder = runs_directory(order.store_path) / f"{order.run_id}.flow"
        recipe = recipe_file(step.recipe, step.recipe_text, folder)
        return curate_arguments(
            step.dataset, [source], recipe, order.store_path, folder / "progress.jsonl", settings
        )
    if order.step == "train":
        preset = order.profile.train.preset
        return train_arguments(source, order.run_id, order.store_path, settings, preset=preset)
    return evaluate_arguments(source, order.run_id, order.store_path, settings)


def state_of(end: RunEnd) -> StepState:
    """The state of a step whose run ended so."""
    if end.state in ("completed", "ceiling"):
        return "completed" if end.state == "completed" else "ceiling"
    return "interrupted"


def failed(order: StepOrder, error: EvoloomError) -> StepEnd:
    """The end of a step that could not be executed."""
    state: StepState = "interrupted" if error.exit_code in (75, 130) else "failed"
    return StepEnd(state, order.run_id, str(error), error.exit_code)


def text_of(record: dict[str, Any]) -> str:
    """A progress record of any step, on a line."""
    return str(record.get("text", ""))
