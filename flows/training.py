"""Training a student: what the CLI and the Prefect flow both call."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flows import logs
from flows.execution import Ingester
from flows.publishing import Published, publish_store
from flows.runs import Listener, hold, new_run_id, resume_settings
from flows.training_data import TrainingData, load_training_data
from flows.training_processes import train_in_processes
from pipeline.config import Settings, resolve
from pipeline.errors import EvoloomError, InterruptedRunError, UsageError
from pipeline.manifests import check_derivation, common_parts
from pipeline.run.driver import RunEnd
from pipeline.student.methods import get_method
from pipeline.student.methods.base import MethodSettings
from pipeline.student.planning import TrainingPlan, count_processes, plan_training
from pipeline.student.records import write_examples
from pipeline.student.trained import HELD_OUT, KIND, METRICS, RESULT, TRAIN
from pipeline.teacher.weights import unpack_bundled_model
from pipeline.threads import share_cores
from store.run_directory import find_runs, is_run, read_manifest, read_state, runs_directory
from store.run_writer import HeldRun, check_new_run, create_run

DERIVATION_VERSION = 1
_STATE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """How a training ended, and what became of the store."""

    run_id: str
    run_dir: Path
    end: RunEnd
    result: Mapping[str, Any] | None
    """`result.json`; None where it has not ended."""
    published: Published


def start_training(
    dataset: str,
    flags: Mapping[str, Any],
    config_file: Path | None = None,
    run_id: str | None = None,
    listener: Listener | None = None,
    *,
    use_preset: bool = False,
) -> TrainingResult:
    """Train a student on a dataset version, a run, an import or an exported file; where there is a
    training of this id already, go on with it.

    Args:
        flags: dotted settings as given on the command line.
        use_preset: take the training settings that the dataset's recipe recommends; what is set
            otherwise takes precedence.

    Raises:
        UsageError: dataset, base model, method and settings cannot be used together, or do not fit
            into memory; nothing was started.
        EvoloomError: the training failed; its run directory says why.
    """
    share_cores()
    listener = listener or Listener()
    settings = resolve(flags, config_file).settings
    store_path = settings.store.path
    if run_id and is_run(store_path, run_id):
        return resume_training(run_id, store_path, flags, config_file, listener, wait=True)
    run_id = run_id or new_run_id(KIND)
    logs.about(run_id=run_id, kind=KIND)
    check_new_run(store_path, run_id)
    data = load_training_data(store_path, dataset, settings.training)
    if use_preset:
        settings = _with_preset(data, flags, config_file)
        # What is held out is a setting, too.
        data = load_training_data(store_path, dataset, settings.training)
    manifest, plan = _plan(run_id, settings, data, listener)
    files = {TRAIN: write_examples(data.train), HELD_OUT: write_examples(data.held_out)}
    create_run(store_path, manifest, files)
    listener.message(f"training {run_id}: {_summary(plan, settings)}")
    with HeldRun(store_path, run_id) as run:
        end = _execute(run, settings, store_path, listener)
    return _result(store_path, run_id, end)


def resume_training(
    run_id: str,
    store_path: Path,
    flags: Mapping[str, Any],
    config_file: Path | None = None,
    listener: Listener | None = None,
    *,
    wait: bool = False,
) -> TrainingResult:
    """Go on with a training from its last checkpoint. Reads the run directory alone, and the
    operational settings that are set now.

    Raises:
        UsageError: no such training, or a setting differs that the manifest pins.
        RunTakenError: another process executes it and `wait` is off.
    """
    share_cores()
    listener = listener or Listener()
    runs_dir = runs_directory(store_path)
    find_runs(runs_dir, [run_id])
    manifest = read_manifest(runs_dir / run_id).raw
    if manifest["kind"] != KIND:
        raise UsageError(f"run {run_id} is of kind '{manifest['kind']}', not a training")
    logs.about(run_id=run_id, kind=KIND)
    check_derivation(manifest, DERIVATION_VERSION)
    settings = resume_settings(manifest, flags, config_file).settings
    with hold(store_path, run_id, wait, listener) as run:
        if read_state(run.path).state == "completed":
            end = RunEnd("completed", None)
        else:
            end = _execute(run, settings, store_path, listener)
    return _result(store_path, run_id, end)


def _with_preset(
    data: TrainingData, flags: Mapping[str, Any], config_file: Path | None
) -> Settings:
    if data.preset is None:
        raise UsageError(
            f"--preset: the recipe of {data.name} recommends no training settings; the step 'lima' "
            "of `evoloom curate` does"
        )
    return resolve(flags, config_file, base={"training": dict(data.preset)}).settings


def _plan(
    run_id: str, settings: Settings, data: TrainingData, listener: Listener
) -> tuple[dict[str, Any], TrainingPlan]:
    training = settings.training
    if training.base is None:
        base = unpack_bundled_model(settings.engine.cache_dir, listener.message)
        name = settings.engine.model if settings.engine.model_path is None else base.name
    else:
        base = training.base.expanduser().resolve()
        name = base.name
    method = get_method(training.method)
    method_settings = method_settings_of(settings)
    listener.message(
        f"{data.name}: {len(data.train)} examples to train on, {len(data.held_out)} held out"
    )
    manifest = common_parts(run_id, KIND, settings, name, DERIVATION_VERSION)
    plan = plan_training(
        base, training, method_settings, data.train, data.held_out, manifest["run_seed"]
    )
    lost = (
        plan.train.truncated + plan.held_out.truncated,
        plan.train.dropped + plan.held_out.dropped,
    )
    if any(lost):
        listener.message(
            f"longer than {plan.max_length} tokens: {lost[0]} examples truncated, {lost[1]} dropped"
        )
    manifest |= {
        "dataset": data.name,
        "content_hash": data.content_hash,
        "base": {"name": name, "folder": str(base)},
        "method": {
            "name": method.name,
            "settings": method_settings.model_dump(mode="json"),
        },
        "template": plan.template.name,
        "template_text": plan.template.text,
        "dtype": plan.dtype,
        "max_length": plan.max_length,
        "counts": {
            "train": len(data.train),
            "held_out": len(data.held_out),
            "truncated": lost[0],
            "dropped": lost[1],
        },
        "estimated_memory_bytes": plan.memory.peak,
    }
    return manifest, plan


def method_settings_of(settings: Settings) -> MethodSettings:
    """The settings of the method that is trained with.

    Raises:
        UsageError: there is no such method.
    """
    method = get_method(settings.training.method)
    found: MethodSettings = getattr(settings.methods, method.name)
    return found


def _summary(plan: TrainingPlan, settings: Settings) -> str:
    from pipeline.student.memory import gib

    share = 100 * plan.trained_parameters / max(plan.parameters, 1)
    return (
        f"{settings.training.method} trains {plan.trained_parameters:,} parameters ({share:.2f}% of "
        f"{plan.parameters:,}) on {plan.device} in {plan.dtype}, template {plan.template.name}, "
        f"about {gib(plan.memory.peak)} of memory"
    )


def _execute(run: HeldRun, settings: Settings, store_path: Path, listener: Listener) -> RunEnd:
    run.write_state("running")
    noted = time.monotonic()

    def on_record(record: dict[str, Any]) -> None:
        nonlocal noted
        if time.monotonic() - noted >= _STATE_EVERY_S and record["state"] == "running":
            noted = time.monotonic()
            run.write_state("running")  # what is ingested meanwhile is known by its age
        listener.progress(record)

    if not (run.path / METRICS).exists():
        listener.message("measuring the base model's loss on what is held out")
    interval_s = settings.store.ingest_interval_s
    try:
        with _stop_signals() as stop, Ingester(run, store_path, interval_s):
            end = _train(run.path, settings, stop, on_record)
    except BaseException as exc:
        interrupted = isinstance(exc, (KeyboardInterrupt, InterruptedRunError))
        run.write_state("interrupted" if interrupted else "failed", str(exc) or type(exc).__name__)
        if isinstance(exc, _StoppedNowError):
            return RunEnd("interrupted", str(exc))
        raise
    run.write_state(end.state, end.reason)
    return end


def _train(
    run_dir: Path,
    settings: Settings,
    stop: Callable[[], str | None],
    on_record: Callable[[dict[str, Any]], None],
) -> RunEnd:
    interval_s = settings.run.progress_interval_s
    if count_processes(settings.training) > 1:
        state, reason = train_in_processes(
            run_dir, settings.training, stop, on_record, progress_interval_s=interval_s
        )
        return RunEnd("completed" if state == "completed" else "interrupted", reason)
    from pipeline.student.training import train

    ended = train(
        run_dir, settings.training, should_stop=stop, on_record=on_record,
        progress_interval_s=interval_s,
    )  # fmt: skip
    return RunEnd(ended.state, ended.reason)


class _StoppedNowError(KeyboardInterrupt):
    """Raised by a second signal: the training goes on from its last checkpoint."""


@contextlib.contextmanager
def _stop_signals() -> Iterator[Callable[[], str | None]]:
    """SIGTERM and SIGINT end the training after the step at hand; a second one ends it now."""
    asked: list[str] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if asked:
            raise _StoppedNowError(name)
        asked.append(name)

    def reason() -> str | None:
        return asked[0] if asked else None

    if threading.current_thread() is not threading.main_thread():
        yield reason
        return
    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield reason
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _result(store_path: Path, run_id: str, end: RunEnd) -> TrainingResult:
    run_dir = runs_directory(store_path) / run_id
    path = run_dir / RESULT
    result = json.loads(path.read_bytes()) if path.exists() else None
    return TrainingResult(run_id, run_dir, end, result, publish_store(store_path))


def training_error(result: TrainingResult) -> EvoloomError | None:
    """What to say of a training that has not ended; None where it has."""
    if result.end.state == "completed":
        return None
    error = InterruptedRunError(
        f"training {result.run_id} was interrupted ({result.end.reason}); `evoloom resume "
        f"{result.run_id}` goes on from its last checkpoint"
    )
    if result.end.reason == "SIGINT":
        error.exit_code = 130
    return error
