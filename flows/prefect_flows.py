"""Prefect flows: one for each method, all with the tasks prepare, run, publish and report.

A flow does not execute its run, it supervises the process that does (`flows.supervision`). Retried,
or started again with the same run id, it resumes the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from prefect import Flow, State, flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Failed

from flows import logs
from flows.analysis import analyse_after
from flows.command_flow import tag_flow_run
from flows.execution import Published, publish_store
from flows.methods import METHODS
from flows.parameters import checked_run_id, resolve_parameters
from flows.prefect_output import outlive_worker
from flows.prefect_page import leave_page
from flows.prefect_progress import Courier
from flows.prefect_report import ending, run_report
from flows.progress import line
from flows.runs import Listener
from flows.supervision import Supervisor
from pipeline.config import Settings
from pipeline.errors import EvoloomError
from pipeline.run.driver import RunEnd
from pipeline.self_instruct import manifest as self_instruct_manifest
from store.run_directory import is_run
from store.run_writer import HeldRun

_LOG_EVERY_S = 30.0

MethodFlow = Flow[..., Any]
"""(settings by section, run id) to the run id, or to the state the flow run ends in."""


class RunUnfinishedError(EvoloomError):
    """Raised by a flow whose run is to be resumed; Prefect retries it where retries are set."""


class Job:
    """One execution of a flow: what its tasks hand on to each other, and to whoever called it in
    this process. No dataclass: Prefect looks into those for futures."""

    def __init__(self, listener: Listener | None = None) -> None:
        """
        Args:
            listener: who watches in this process; None where a worker executes the flow.
        """
        self.listener = listener or Listener()
        self.is_attended = listener is not None
        self.kind = ""
        self.run_id = ""
        self.settings: Settings | None = None
        self.begin()

    def begin(self) -> None:
        """Forget how an earlier attempt went: a flow that is retried calls its function again."""
        self.caught: BaseException | None = None
        self.is_cancelled = False
        self.is_cut_off = False
        self.end: RunEnd | None = None
        self.error: EvoloomError | None = None
        self.published: Published | None = None

    @property
    def store_settings(self) -> Settings:
        """The settings; there are none before `prepare`."""
        assert self.settings is not None
        return self.settings


_ATTENDED: ContextVar[Job | None] = ContextVar("attended_job", default=None)


@contextmanager
def attend(job: Job) -> Iterator[None]:
    """Have the flow that is called in this context fill a job, and tell its listener what goes on."""
    token = _ATTENDED.set(job)
    try:
        yield
    finally:
        _ATTENDED.reset(token)


@task(cache_policy=NO_CACHE, persist_result=False)
def prepare(job: Job, kind: str, values: Mapping[str, Any], run_id: str | None) -> None:
    """Check settings, seeds and templates, and fix the run id."""
    job.kind = kind
    job.run_id = checked_run_id(run_id or str(runtime.flow_run.id))
    job.settings = resolve_parameters(values)
    if not is_run(job.settings.store.path, job.run_id):  # a resume reads the run directory alone
        METHODS[kind].check(job.run_id, job.settings)
    tag_flow_run(*flow_tags(kind, job.settings, job.run_id))


@task(name="run", cache_policy=NO_CACHE, persist_result=False)
def execute(job: Job) -> State[Any] | None:
    """Supervise the process that executes the run, to its end."""
    logs.about(run_id=job.run_id, kind=job.kind)
    logger = get_run_logger()
    logged: dict[str, Any] = {"at": float("-inf"), "state": None}

    def on_progress(record: dict[str, Any]) -> None:
        job.listener.progress(record)
        courier.show(record)
        now = time.monotonic()
        if now - logged["at"] >= _LOG_EVERY_S or record["state"] != logged["state"]:
            logged.update(at=now, state=record["state"])
            logger.info(line(record))

    def on_message(text: str) -> None:
        job.listener.message(text)
        logger.info(text)

    with Courier(UUID(runtime.flow_run.id), f"{job.kind}-progress") as courier:
        supervisor = Supervisor(
            job.kind,
            job.run_id,
            job.store_settings,
            Listener(on_progress, on_message),
            courier.cancelled.is_set,
        )
        try:
            job.end = supervisor.run()
        except EvoloomError as exc:
            job.error = exc
        finally:
            job.caught = supervisor.caught
    job.is_cancelled = courier.cancelled.is_set()  # after its last look
    job.is_cut_off = courier.is_cut_off
    if job.is_cancelled:
        _note_cancelled(job)
    if job.error is not None:
        return Failed(message=str(job.error))
    assert job.end is not None
    if job.end.state == "completed":
        return None
    return Failed(name=job.end.state.capitalize(), message=_ending(job))


@task(cache_policy=NO_CACHE, persist_result=False)
def publish(job: Job) -> None:
    """Bring the store up to date and publish its snapshot. The run's process did it too, unless the
    store was held or the process was killed."""
    job.published = publish_store(job.store_settings.store.path)
    if job.published.pending is None and job.end is not None and job.end.state != "interrupted":
        # Nothing is left to do unless the run's process was killed or could not write.
        settings = job.store_settings
        analyse_after(settings.store.path, job.run_id, settings, get_run_logger().info)


@task(cache_policy=NO_CACHE, persist_result=False)
def report(job: Job) -> None:
    """Leave the funnel, the statistics, the tokens and the cost as an artifact, how to go on, and a
    link to the report page."""
    assert job.end is not None
    store_path = job.store_settings.store.path
    text = run_report(store_path, job.run_id, job.end)
    text += leave_page(store_path, job.run_id, job.run_id, f"{job.kind}-page")
    create_markdown_artifact(
        text, key=f"{job.kind}-report", description=f"What run {job.run_id} made, and from what"
    )


def _note_cancelled(job: Job) -> None:
    """The run's process only knows that it was stopped; that it was wanted is known here."""
    if job.end is not None and job.end.state == "interrupted":
        # Taken by somebody who goes on with it already: then it is not cancelled.
        with suppress(EvoloomError), HeldRun(job.store_settings.store.path, job.run_id) as run:
            run.write_state("cancelled", "in Prefect")
            job.end = RunEnd("interrupted", "cancelled in Prefect")


def _ending(job: Job) -> str:
    assert job.end is not None
    return ending(job.store_settings.store.path, job.run_id, job.end)


def _flow_run_name() -> str:
    values = runtime.flow_run.parameters
    run_id = values.get("run_id") or runtime.flow_run.id
    kind = runtime.flow_run.flow_name
    try:
        size = size_of(kind, resolve_parameters(values.get("settings") or {}))
    except EvoloomError:  # `prepare` says what is wrong
        size = "?"
    return f"{kind} {size} {run_id}"


def flow_tags(kind: str, settings: Settings, run_id: str) -> list[str]:
    """The tags of a run's flow run."""
    name = "target" if kind == self_instruct_manifest.KIND else "source"
    return ["evoloom", kind, f"{name}:{size_of(kind, settings)}", f"run:{run_id}"]


def size_of(kind: str, settings: Settings) -> str:
    """What a run is asked for, in a word: the target, or what is evolved."""
    if kind == self_instruct_manifest.KIND:
        return str(settings.run.target)
    return str(settings.evol_instruct.source)


def make_flow(kind: str) -> MethodFlow:
    """The flow of a method. Its parameters are settings by section, such as
    `{"run": {"target": 100}}`, and a run id."""

    def run_method(settings: dict[str, Any] | None = None, run_id: str | None = None) -> Any:
        outlive_worker()
        job = _ATTENDED.get() or Job()
        job.begin()
        prepare(job, kind, settings or {}, run_id)
        execute(job, return_state=True)
        if job.error is not None:
            raise job.error
        if job.caught is not None and not job.is_attended:
            # The worker's signal: Prefect's engine knows whether it means cancel, crash or reschedule.
            raise job.caught
        publish(job)
        if not job.is_cut_off:
            report(job, return_state=True)  # fails without a server; the run has not
        return _conclude(job)

    # Deployments find a flow by its function's name in this module.
    run_method.__name__ = run_method.__qualname__ = kind.replace("-", "_")
    run_method.__doc__ = (
        f"Grow instructions ({kind}). Resumes the run if there is one with this id.\n\n"
        "settings: by section, on top of the worker's environment and file.\n"
        "run_id: names the run; without it, it is the flow run's id."
    )
    decorate: Callable[..., Any] = flow(
        name=kind, flow_run_name=_flow_run_name, validate_parameters=True, persist_result=False
    )
    made: MethodFlow = decorate(run_method)
    return made


def _conclude(job: Job) -> Any:
    assert job.end is not None
    if job.end.state == "completed":
        return job.run_id
    message = _ending(job)
    if job.is_cancelled:
        return Cancelled(message=message)
    if job.end.state == "ceiling":
        # Fewer than asked for: whoever is alerted by failed flows must hear of it, as exit code 1
        # tells the shell. Trying again gives nothing, so it is no exception.
        return Failed(name="Ceiling", message=message)
    raise RunUnfinishedError(message)


self_instruct = make_flow("self-instruct")
evol_instruct = make_flow("evol-instruct")

FLOWS: dict[str, MethodFlow] = {"self-instruct": self_instruct, "evol-instruct": evol_instruct}
"""By the method's name."""
