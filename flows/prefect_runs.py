"""Running a run as a Prefect flow from the command line.

Prefect is imported late: it reads its environment when it is imported, and takes a second.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

from flows.child import KEY_VARIABLE
from flows.execution import publish_store
from flows.methods import METHODS
from flows.nightly import KIND, NightlyEnd
from flows.parameters import checked_run_id, resolve_parameters
from flows.prefect_server import prefect_server
from flows.profiles import NightlyProfile
from flows.runs import Listener, RunResult
from pipeline.config import Settings, dump
from pipeline.errors import EvoloomError, InterruptedRunError
from store.run_directory import is_run

if TYPE_CHECKING:
    from flows.prefect_flows import Job


class PrefectFailedError(EvoloomError):
    """Raised when Prefect itself failed before the run began."""


def start_as_flow(
    kind: str, settings: Settings, run_id: str | None, listener: Listener
) -> RunResult:
    """Run a method as a flow in this process: on the configured Prefect server, else on one that
    lives as long as this call. A run that exists is resumed.

    Without a run id the flow run's id becomes it. The run itself is executed by a child process,
    which goes on whatever becomes of this one and of the server.

    Raises:
        UsageError: settings, seeds or teacher are not usable, or the server does not answer.
        EvoloomError: the run failed, or was stopped before it began.
    """
    # What can be wrong with the user's input is said before a server is started for it.
    if run_id is None or not is_run(settings.store.path, run_id):
        METHODS[kind].check(run_id or "checked", settings)
    with terminable(), _key_in_environment(settings), prefect_server(listener.message) as url:
        from prefect import tags

        from flows.prefect_flows import FLOWS, Job, attend, flow_tags

        if run_id is not None:
            checked_run_id(run_id)
        job = Job(listener)
        labels = flow_tags(kind, settings, run_id) if run_id else ["evoloom", kind]
        try:
            with attend(job), tags(*labels):
                FLOWS[kind](settings=dump(settings), run_id=run_id)
        except EvoloomError:
            if job.end is None:
                raise
        except BaseException as exc:
            # Once the run has ended, what Prefect fails in is telling about it.
            if job.end is None and isinstance(exc, Exception):
                raise PrefectFailedError(
                    f"Prefect at {url} failed before the run began: {type(exc).__name__}: {exc}. "
                    "Without --prefect and PREFECT_API_URL the run needs none"
                ) from exc
            if job.end is None:
                raise
            if not job.is_cancelled:
                listener.message(
                    f"Prefect at {url} was lost ({type(exc).__name__}): the flow run there may look "
                    "unfinished; the run itself is as told here"
                )
        _flush(listener)
        return _result(job)


def nightly_as_flow(profile: NightlyProfile, run_id: str, listener: Listener) -> NightlyEnd:
    """Go through a nightly's chain as a flow in this process: on the configured Prefect server, else
    on one that lives as long as this call.

    Raises:
        UsageError: the server does not answer, or the nightly was begun with another profile.
    """
    settings = resolve_parameters(profile.settings)
    with terminable(), _key_in_environment(settings), prefect_server(listener.message) as url:
        from flows.prefect_nightly import Told, nightly, told

        heard = Told(listener.message)
        try:
            with told(heard):
                nightly(**profile.parameters(), run_id=run_id)
        except EvoloomError:
            if heard.end is None:
                raise
        except Exception as exc:
            if heard.end is None:
                raise PrefectFailedError(
                    f"Prefect at {url} failed: {type(exc).__name__}: {exc}. What was made is there: "
                    f"`evoloom run {KIND} --run-id {run_id}` goes on"
                ) from exc
        _flush(listener)
        assert heard.end is not None
        return heard.end


def _result(job: Job) -> RunResult:
    assert job.end is not None
    published = job.published or publish_store(job.store_settings.store.path)
    return RunResult(job.run_id, job.end, published)


def _flush(listener: Listener) -> None:
    """Send what Prefect still has to tell while there is a server to tell it to."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        with contextlib.suppress(Exception):
            worker.drain_all(timeout=10.0, at_exit=True)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM outside of the flow is an error like others: what was started is taken down again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        raise InterruptedRunError(
            f"stopped by {signal.Signals(number).name}; what had begun can be resumed"
        )

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _key_in_environment(settings: Settings) -> Iterator[None]:
    """The teacher's key reaches the flow and its child by environment: parameters are public."""
    before = os.environ.get(KEY_VARIABLE)
    key = settings.teacher.api_key
    if key is not None:
        os.environ[KEY_VARIABLE] = key.get_secret_value()
    try:
        yield
    finally:
        if before is not None:
            os.environ[KEY_VARIABLE] = before
        else:
            os.environ.pop(KEY_VARIABLE, None)
