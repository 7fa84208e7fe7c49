"""Executes the runs that were asked for over REST as flow runs of Prefect deployments.

They are the deployments of the work pool `cpu`, which every worker of that pool executes
(`evoloom worker`). Unless `api.worker` is off, the service has one of its own, a process that ends with
it. The flow's own process supervises the run (`flows.prefect_flows`).

    python -m flows.serving.deployments LIMIT

Prefect is imported late: it takes a second.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import flows
from flows import logs
from flows.deployments import deploy_pool, workers_online
from flows.following import is_locked
from flows.serving.commands import Publisher
from flows.serving.executor import CANCELLED, mark_cancelled, settings_of
from pipeline.config import Settings, dump
from pipeline.errors import UsageError
from store.run_directory import is_run, runs_directory
from store.run_writer import is_held
from store.service.database import ServiceDatabase
from store.service.run_requests import RequestState, RunRequest, open_requests, update_request

POOL = "cpu"
"""The work pool; its deployments have its name, such as self-instruct/cpu."""
_START = (
    "import sys; sys.path.append(sys.argv.pop()); "
    "from flows.serving.deployments import main; main()"
)
_LOOK_EVERY_S = 1.0
ABANDONED_AFTER_S = 120.0
"""How long nobody may have had a run that Prefect takes for begun. `evoloom up` takes runs up again, and
sooner; where there is only a worker nobody does, when it was killed."""


class PrefectExecutor:
    """Schedules a flow run for each request and notes how it ends. The run's id is Prefect's
    idempotency key, so that a request is scheduled once however often the service is restarted."""

    name = "prefect"

    def __init__(self, settings: Settings, database: ServiceDatabase, publisher: Publisher) -> None:
        self._settings = settings
        self._database = database
        self._publisher = publisher
        self._at_once = settings.api.runs_at_once
        self._has_worker = settings.api.worker
        """Without one, workers beside the service execute the runs."""
        self._news = threading.Event()
        self._is_closed = False
        self._problem: str | None = "the deployments are not registered yet"
        self._worker: subprocess.Popen[bytes] | None = None
        self._alone_since: dict[str, float] = {}
        self._thread = threading.Thread(target=self._loop, name="runs", daemon=True)

    def start(self) -> None:
        """Register the deployments, start the worker and begin to look.

        Raises:
            UsageError: the server does not answer.
            DeploymentError: it does not take the deployments.
        """
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
            if problem is not None:
                raise UsageError(
                    f"Prefect's server at {client.api_url} does not answer ({problem}). Start it, "
                    "correct PREFECT_API_URL, or set api.executor to 'process'"
                ) from problem
        if self._has_worker:
            root = str(Path(flows.__file__).resolve().parents[1])
            self._worker = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(self._at_once), root],
                stdin=subprocess.PIPE, start_new_session=True,
                env={**os.environ, **logs.prefect_environment()},
            )  # fmt: skip
        else:
            deploy_pool(POOL)
        self._thread.start()

    def wake(self) -> None:
        """See `Executor`."""
        self._news.set()

    def message(self, run_id: str) -> str | None:
        """See `Executor`; what a flow run logs is in Prefect."""
        return None

    def problem(self) -> str | None:
        """See `Executor`."""
        if self._has_worker and (self._worker is None or self._worker.poll() is not None):
            return f"the service's worker of the pool {POOL} has ended"
        return self._problem

    def close(self) -> None:
        """Stop looking, and have no more flow runs executed; those at work go on."""
        self._is_closed = True
        self._news.set()
        if self._worker is not None and self._worker.stdin is not None:
            self._worker.stdin.close()

    def _loop(self) -> None:
        while not self._is_closed:
            try:
                self._look()
                self._problem = self._lack()
            except Exception as exc:  # noqa: BLE001  a server that is away is back later
                self._problem = f"Prefect: {type(exc).__name__}: {exc}"
            self._news.wait(_LOOK_EVERY_S)
            self._news.clear()

    def _lack(self) -> str | None:
        if self._has_worker or workers_online(POOL):
            return None
        return f"no worker of the pool {POOL} is at work: `evoloom worker --pool {POOL}`"

    def _look(self) -> None:
        from httpx import TransportError
        from prefect.client.orchestration import get_client

        failed: Exception | None = None
        with get_client(sync_client=True) as client:
            for request in open_requests(self._database):
                if self._is_closed:
                    return
                try:
                    self._look_at(client, request)
                except TransportError:
                    raise  # the server is away: for all of them
                except Exception as exc:  # noqa: BLE001  one request keeps no other from its turn
                    failed = failed or exc
        if failed is not None:
            raise failed

    def _look_at(self, client: Any, request: RunRequest) -> None:
        from prefect.exceptions import ObjectNotFound

        if request.state == "queued":
            self._schedule(client, request)
        elif request.flow_run_id is not None:
            try:
                flow_run = client.read_flow_run(UUID(request.flow_run_id))
            except ObjectNotFound:
                if self._is_alone(request):
                    self._close(request, "its flow run is not known to Prefect's server any more")
                return
            self._follow(client, request, flow_run)

    def _schedule(self, client: Any, request: RunRequest) -> None:
        settings = settings_of(request, self._settings)
        if request.cancel_requested:
            if is_run(settings.store.path, request.run_id):
                mark_cancelled(self._database, request.run_id, settings.store.path)
                self._note(request, "ended")
            else:
                self._note(request, "cancelled", CANCELLED)
            return
        deployment = client.read_deployment_by_name(f"{request.method}/{POOL}")
        flow_run = client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"settings": dump(settings), "run_id": request.run_id},
            # A run that is resumed is scheduled again.
            idempotency_key=f"{request.run_id}/{request.updated_at}",
            tags=["evoloom", request.method, f"run:{request.run_id}"],
        )
        self._note(request, "started", flow_run_id=str(flow_run.id))

    def _follow(self, client: Any, request: RunRequest, flow_run: Any) -> None:
        from prefect.states import Cancelled, Cancelling, Crashed

        state = flow_run.state
        if state is None:
            return
        if state.is_final():
            if state.is_cancelled() and not self._has_run(request):
                self._note(request, "cancelled", CANCELLED)
            else:
                self._close(request, None if state.is_completed() else state.message or state.name)
        elif not state.is_scheduled() and self._is_alone(request):
            message = "its process was killed, and nobody has the run"
            ends_as = Cancelled if state.is_cancelling() else Crashed
            client.set_flow_run_state(flow_run.id, ends_as(message=message), force=True)
            self._close(request, message)
        elif request.cancel_requested and not state.is_cancelling():
            client.set_flow_run_state(flow_run.id, Cancelling())

    def _has_run(self, request: RunRequest) -> bool:
        return is_run(self._settings.store.path, request.run_id)

    def _is_alone(self, request: RunRequest) -> bool:
        """Whether nobody has had the run for a while: neither a flow nor the run's own process."""
        run_dir = runs_directory(self._settings.store.path) / request.run_id
        if is_held(run_dir) or is_locked(run_dir.with_name(f"{request.run_id}.flow") / "lock"):
            self._alone_since.pop(request.run_id, None)
            return False
        now = time.monotonic()
        return now - self._alone_since.setdefault(request.run_id, now) >= ABANDONED_AFTER_S

    def _close(self, request: RunRequest, reason: str | None) -> None:
        """A request whose flow run is at its end, or gone."""
        self._alone_since.pop(request.run_id, None)
        if self._has_run(request):
            mark_cancelled(self._database, request.run_id, self._settings.store.path)
            self._note(request, "ended", reason)
            self._publisher.publish()
        else:
            self._note(request, "failed", reason)

    def _note(
        self,
        request: RunRequest,
        state: RequestState,
        reason: str | None = None,
        flow_run_id: str | None = None,
    ) -> None:
        with self._database.transaction() as connection:
            update_request(
                connection, request.run_id, state=state, reason=reason, executor=self.name,
                flow_run_id=flow_run_id,
            )  # fmt: skip


def main() -> None:
    """Register the deployments and be a worker of their pool, until standard input ends."""
    threading.Thread(target=_end_with_input, name="input", daemon=True).start()
    deploy_pool(POOL)
    from prefect.cli import app

    limit = sys.argv[1]
    sys.argv = ["prefect", "worker", "start", "--pool", POOL, "--type", "process", "--limit", limit]
    app()


def _end_with_input() -> None:
    import signal

    with contextlib.suppress(OSError):
        sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30.0)
    os._exit(1)
