"""Starting, resuming and deriving runs again: what the CLI and the Prefect flows both call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from secrets import token_hex
from typing import Any

from flows import logs
from flows.analysis import analyse_after
from flows.execution import Published, execute, open_teacher, publish_store
from flows.methods import METHODS, method_of
from flows.sources import pin_names
from pipeline.asking import read_stages
from pipeline.config import Resolved, Settings, dump, flatten, operational_keys, resolve
from pipeline.errors import UsageError
from pipeline.records import Address
from pipeline.run.driver import RunEnd
from pipeline.run.replay import check_give_up
from store.database import check_store
from store.run_directory import (
    RunState,
    find_runs,
    is_run,
    read_manifest,
    read_pruned,
    read_state,
    runs_directory,
)
from store.run_writer import HeldRun, RunTakenError, check_new_run, create_run, follow_progress

_FOLLOW_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """How an execution ended, and what became of the store."""

    run_id: str
    end: RunEnd
    published: Published


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what goes on: progress records, and lines of text."""

    progress: Callable[[dict[str, Any]], None] = lambda record: None
    message: Callable[[str], None] = lambda text: None


def new_run_id(kind: str) -> str:
    """A run id that sorts by time: `self-instruct-20261121-034700-1f2e`."""
    return f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{token_hex(2)}"


def start_run(
    kind: str, settings: Settings, run_id: str | None = None, listener: Listener | None = None
) -> RunResult:
    """Write a manifest, then execute the run.

    Raises:
        UsageError: settings, seeds, templates or teacher are not usable; nothing was started.
        EvoloomError: the run failed; its directory says why.
    """
    listener = listener or Listener()
    store_path = settings.store.path
    run_id = run_id or new_run_id(kind)
    logs.about(run_id=run_id, kind=kind)
    method = METHODS[kind]
    check_new_run(store_path, run_id)
    pinned = pin_names(settings)
    files = method.check(run_id, pinned)  # before any wait
    with open_teacher(settings, listener.message, method.stages) as place:
        manifest = method.build_manifest(run_id, pinned, place.model, files)
        manifest["config"] = dump(settings)  # as given, for a resume to be compared with
        create_run(store_path, manifest, files)
        listener.message(f"run {run_id}")
        with HeldRun(store_path, run_id) as run:
            machine = method.build_machine(run.manifest, run.path)
            end = execute(run, machine, settings, place, store_path, on_progress=listener.progress)
    return _publish(store_path, run_id, end, settings, listener)


def resume_run(
    run_id: str,
    store_path: Path,
    flags: Mapping[str, Any],
    *,
    give_up: frozenset[Address] = frozenset(),
    wait: bool = False,
    config_file: Path | None = None,
    listener: Listener | None = None,
) -> RunResult:
    """Go on with a run where its journal ends. Reads the run directory alone, and the operational
    settings that were set on top of the manifest's.

    Args:
        wait: follow a run that another process executes, then resume if anything is left.

    Raises:
        UsageError: no such run, a setting differs that the manifest pins, or an address is given
            up that the run is not waiting for.
        RunTakenError: another process executes it and `wait` is off.
    """
    listener = listener or Listener()
    run_dir = runs_directory(store_path) / run_id
    find_runs(runs_directory(store_path), [run_id])
    check_store(store_path)
    manifest = read_manifest(run_dir).raw
    logs.about(run_id=run_id, kind=manifest["kind"])
    method_of(manifest)  # an import or a dataset version is not to be held, let alone changed
    resolved = resume_settings(manifest, flags, config_file)
    if (record := read_pruned(run_dir)) is not None and not give_up:
        # Only a run that has ended is pruned, and it cannot be held any more.
        state = read_state(run_dir)
        listener.message(f"run {run_id} was pruned on {record.pruned_at:%Y-%m-%d}; it is done")
        return _publish(store_path, run_id, _settled(state), resolved.settings, listener)
    with hold(store_path, run_id, wait, listener) as run:
        state = read_state(run_dir)
        if state.state in ("completed", "ceiling"):
            if give_up:
                raise UsageError(f"run {run_id} is {state.state}: there is nothing to give up")
            return _publish(store_path, run_id, _settled(state), resolved.settings, listener)
        if run.manifest["rederived_from"]:
            raise UsageError(
                f"run {run_id} was being derived again from {run.manifest['rederived_from']} and "
                "is not complete; it asks no teacher. Run `evoloom rederive` again"
            )
        settings = resolved.settings
        method = method_of(run.manifest)
        if give_up:
            check_give_up(give_up, method.build_machine(run.manifest, run.path), run.journal)
        machine = method.build_machine(run.manifest, run.path)
        with open_teacher(settings, listener.message, method.stages) as place:
            end = execute(
                run, machine, settings, place, store_path,
                give_up=give_up, on_progress=listener.progress,
            )  # fmt: skip
    return _publish(store_path, run_id, end, settings, listener)


def _settled(state: RunState) -> RunEnd:
    """The end of a run that has ended."""
    return RunEnd("completed" if state.state == "completed" else "ceiling", state.reason)


def is_training(store_path: Path, run_id: str) -> bool:
    """Whether a run trains a student; False where there is no such run."""
    return is_run(store_path, run_id) and (
        read_manifest(runs_directory(store_path) / run_id).kind == "training"
    )


def is_evaluation(store_path: Path, run_id: str) -> bool:
    """Whether a run evaluates a student; False where there is no such run."""
    return is_run(store_path, run_id) and (
        read_manifest(runs_directory(store_path) / run_id).kind == "evaluation"
    )


def _publish(
    store_path: Path, run_id: str, end: RunEnd, settings: Settings, listener: Listener
) -> RunResult:
    published = publish_store(store_path)
    # Who stops a run wants it to be over; what is not in the snapshot cannot be analysed.
    if end.reason not in ("SIGINT", "SIGTERM") and published.pending is None:
        analyse_after(store_path, run_id, settings, listener.message)
    return RunResult(run_id, end, published)


def hold(store_path: Path, run_id: str, wait: bool, listener: Listener) -> HeldRun:
    """Hold a run; where another process does and `wait` is on, follow it until it is free.

    Raises:
        RunTakenError: another process holds it and `wait` is off.
    """
    progress: Iterator[dict[str, Any]] | None = None
    while True:
        try:
            return HeldRun(store_path, run_id)
        except RunTakenError as exc:
            if not wait:
                raise
            if progress is None:
                listener.message(str(exc).split(";")[0] + "; waiting for it")
                progress = follow_progress(runs_directory(store_path) / run_id)
            for record in takewhile(bool, progress):
                listener.progress(record)
            time.sleep(_FOLLOW_EVERY_S)


def resume_settings(
    manifest: Mapping[str, Any], flags: Mapping[str, Any], config_file: Path | None = None
) -> Resolved:
    """The manifest's settings with the operational ones that are set now on top.

    Raises:
        UsageError: a pinned setting is set now to another value; the message names it.
    """
    resolved = resolve(flags, config_file, base=manifest["config"])
    now = dict(flatten(resolved.settings.model_dump(mode="json")))
    then = dict(flatten(Settings(**manifest["config"]).model_dump(mode="json")))
    operational = operational_keys()
    stages = read_stages(manifest)
    resolved_models = {"teacher.model": manifest["model"]} | {
        f"teacher.stages.{stage}.model": asked.model for stage, asked in stages.items()
    }
    for key, source in resolved.sources.items():
        if key in operational or now.get(key) == then.get(key):
            continue
        if key in resolved_models and now[key] == resolved_models[key]:
            continue
        raise UsageError(
            f"setting '{key}' ({source}) is {now.get(key)!r}, but run {manifest['run_id']} was "
            f"started with {then.get(key)!r} and that is pinned in its manifest. Remove it to "
            "resume, or start a new run; `evoloom rederive` applies it to the answers there are"
        )
    # What the run was really asked by, where it was left to the pre-flight.
    teacher = resolved.settings.teacher
    chosen = {
        stage: getattr(teacher.stages, stage).model_copy(update={"model": asked.model})
        for stage, asked in stages.items()
    }
    settings = resolved.settings.model_copy(
        update={"teacher": teacher.model_copy(
            update={"model": manifest["model"],
                    "stages": teacher.stages.model_copy(update=chosen)})}
    )  # fmt: skip
    return Resolved(settings, resolved.sources)
