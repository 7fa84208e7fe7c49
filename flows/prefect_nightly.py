"""The Prefect flow `nightly`: the chain of `flows.nightly`, each step a subflow.

The steps `train` and `evaluate` are flow runs of the pool `gpu` where the profile says so: the worker
there has to see the same store under the same path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from prefect import State, flow, get_run_logger, runtime, tags
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed

from flows.command_flow import tag_flow_run
from flows.nightly import (
    KIND,
    NightlyEnd,
    NightlyStoppedError,
    StepEnd,
    StepOrder,
    StepState,
    run_nightly,
    table_of,
)
from flows.nightly_steps import failed
from flows.parameters import checked_run_id
from flows.prefect_curation import curate as curate_flow
from flows.prefect_evaluation import evaluate_student
from flows.prefect_flows import FLOWS
from flows.prefect_output import outlive_worker
from flows.prefect_student import train_student
from flows.profiles import CHAIN, NightlyProfile, read_profile
from pipeline.errors import EvoloomError
from store.run_directory import is_run, read_state, runs_directory

_POLL_S = 5.0
_LOG_EVERY_S = 300.0
_STUDENT = {"train": "train-student", "evaluate": "evaluate-student"}


class Told:
    """What whoever called the flow in this process hears: messages, and how the nightly ended."""

    def __init__(self, message: Callable[[str], None]) -> None:
        self.message = message
        self.end: NightlyEnd | None = None


_TOLD: ContextVar[Told | None] = ContextVar("told", default=None)


@contextmanager
def told(listener: Told) -> Iterator[None]:
    """Have the flow that is called in this context tell its messages and its end."""
    token = _TOLD.set(listener)
    try:
        yield
    finally:
        _TOLD.reset(token)


def _flow_run_name() -> str:
    values = runtime.flow_run.parameters
    steps = values.get("steps") or CHAIN
    span = steps[0] if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    return f"{KIND} {span} {values.get('run_id') or runtime.flow_run.id}"


@flow(name=KIND, flow_run_name=_flow_run_name, validate_parameters=True, persist_result=False)
def nightly(
    steps: list[str] | None = None,
    source: str | None = None,
    student_pool: str | None = None,
    settings: dict[str, Any] | None = None,
    self_instruct: dict[str, Any] | None = None,
    evol_instruct: dict[str, Any] | None = None,
    curate: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    evaluate: dict[str, Any] | None = None,
    run_id: str | None = None,
) -> Any:
    """Self-instruct, evol-instruct, curate, train, evaluate: each begins with what the one before it
    made. Goes on with the nightly if there is one with this id.

    steps: those to go through, in this order; all.
    source: what the first begins with, where that is not self-instruct.
    student_pool: `gpu`, to train and evaluate in that work pool; this process.
    settings: by section, for all steps, on top of the worker's environment and file.
    self_instruct ... evaluate: of one step: its `settings`; `dataset` and `recipe` of curate, `preset`
        of train.
    run_id: names the nightly; without it, it is the flow run's id.
    """
    given = {
        "steps": steps, "source": source, "student_pool": student_pool, "settings": settings,
        "self_instruct": self_instruct, "evol_instruct": evol_instruct, "curate": curate,
        "train": train, "evaluate": evaluate,
    }  # fmt: skip
    values = {key: value for key, value in given.items() if value is not None}
    profile = read_profile(KIND, values, "parameters of the flow")
    assert isinstance(profile, NightlyProfile)
    run_id = checked_run_id(run_id or str(runtime.flow_run.id))
    outlive_worker()
    tag_flow_run("evoloom", KIND, f"run:{run_id}", *(f"step:{step}" for step in profile.steps))
    listener = _TOLD.get() or Told(lambda text: None)
    logger = get_run_logger()

    def on_message(text: str) -> None:
        logger.info(text)
        listener.message(text)

    def on_rows(rows: Any) -> None:
        try:
            create_table_artifact(
                table_of(rows), key="nightly-steps", description=f"Nightly {run_id}, step by step"
            )
        except Exception as exc:  # noqa: BLE001  the steps are done with or without it
            logger.warning("the table of the steps could not be left in Prefect: %s", exc)

    with tags(f"nightly:{run_id}"):
        end = run_nightly(profile, run_id, _SubflowSteps(on_message), on_message, on_rows)
    listener.end = end
    if end.state == "completed":
        return Completed(message=end.message)
    if end.state == "cancelled":
        return Cancelled(message=end.message)
    raise NightlyStoppedError(end)


class _SubflowSteps:
    """Executes each step as a subflow of this process, or as a flow run of the pool `gpu`."""

    def __init__(self, on_message: Callable[[str], None]) -> None:
        self._on_message = on_message

    def __call__(self, order: StepOrder) -> StepEnd:
        try:
            if order.step in _STUDENT and order.profile.student_pool is not None:
                return self._elsewhere(order, order.profile.student_pool)
            state = _subflow(order)
        except EvoloomError as exc:
            return failed(order, exc)
        made = order.run_id
        if state.is_completed() and order.step == "curate":
            made = str(state.result())
        return _end_of(order, state, made)

    def _elsewhere(self, order: StepOrder, pool: str) -> StepEnd:
        from flows.deployments import deploy_pool

        name = f"{_STUDENT[order.step]}/{pool}"
        deploy_pool(pool)
        # One that an earlier attempt has left there holds the run: this one waits for it, then finds
        # what is left to do.
        made: Any = run_deployment(
            name, parameters=_parameters(order), timeout=0, tags=[f"run:{order.run_id}"]
        )
        flow_run_id = made.id
        self._on_message(f"{order.step} is flow run {flow_run_id} of {name}")
        return _end_of(order, self._wait(flow_run_id, name), order.run_id)

    def _wait(self, flow_run_id: UUID, name: str) -> State[Any]:
        told_at = time.monotonic()
        while True:
            try:
                with get_client(sync_client=True) as client:
                    state = client.read_flow_run(flow_run_id).state
            except ObjectNotFound as exc:
                raise EvoloomError(
                    f"flow run {flow_run_id} of {name} was deleted in Prefect"
                ) from exc
            except Exception as exc:  # noqa: BLE001  a server that is away is back later
                get_run_logger().warning("Prefect does not answer: %s", exc)
                state = None
            if state is not None and state.is_final():
                return state
            if state is not None and state.is_scheduled():
                if time.monotonic() - told_at >= _LOG_EVERY_S:
                    told_at = time.monotonic()
                    self._on_message(
                        f"{name} waits for a worker; `evoloom worker --pool gpu` is one"
                    )
            time.sleep(_POLL_S)


def _subflow(order: StepOrder) -> State[Any]:
    flows: Mapping[str, Any] = {
        **FLOWS, "curate": curate_flow, "train": train_student, "evaluate": evaluate_student
    }  # fmt: skip
    state: State[Any] = flows[order.step](**_parameters(order), return_state=True)
    return state


def _parameters(order: StepOrder) -> dict[str, Any]:
    """What a step's flow is called with."""
    common: dict[str, Any] = {"settings": dict(order.settings), "run_id": order.run_id}
    if order.step == "curate":
        step = order.profile.curate
        named = {"name": step.dataset, "sources": [order.source], "recipe": step.recipe}
        text: Mapping[str, Any] = {"recipe_text": step.recipe_text} if step.recipe_text else {}
        return {**named, **text, **common}
    if order.step == "train":
        return {"dataset": order.source, "preset": order.profile.train.preset, **common}
    if order.step == "evaluate":
        return {"training": order.source, **common}
    return common


def _end_of(order: StepOrder, state: State[Any], made: str) -> StepEnd:
    if state.is_completed():
        return StepEnd("completed", made)
    message = state.message or state.name or str(state.type)
    if state.name == "Ceiling":
        return StepEnd("ceiling", made, message, 1)
    if state.is_cancelled():
        return StepEnd("cancelled", made, message, 75)
    code = _exit_code(order, state)
    kind: StepState = "interrupted" if code in (75, 130) else "failed"
    return StepEnd(kind, made, message, code)


def _exit_code(order: StepOrder, state: State[Any]) -> int:
    """What the step's command would have exited with."""
    if isinstance(state.data, EvoloomError):
        return state.data.exit_code
    with suppress(Exception):  # of a flow run of this process
        error = state.result(raise_on_failure=False)
        if isinstance(error, EvoloomError):
            return error.exit_code
    if is_run(order.store_path, order.run_id):
        found = read_state(runs_directory(order.store_path) / order.run_id).state
        return 75 if found in ("interrupted", "cancelled", "running", "paused") else 1
    return 75 if state.is_crashed() else 1
