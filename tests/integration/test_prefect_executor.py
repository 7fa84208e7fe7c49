"""Requests for runs that are executed over a real Prefect server, one of which is lost there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.deployments import deploy_pool
from flows.serving import deployments
from flows.serving.commands import Publisher
from flows.serving.deployments import PrefectExecutor
from pipeline.config import dump, load_settings
from pipeline.errors import UsageError
from store.run_directory import runs_directory
from store.service.database import ServiceDatabase
from store.service.run_requests import RunRequest, ask_to_cancel, find_request, insert_request
from tests.support.prefect_server import PrefectServer


@pytest.fixture
def database(store: Path) -> Iterator[ServiceDatabase]:
    with ServiceDatabase(store) as database:
        yield database


class Looking:
    """An executor without a worker: what becomes of flow runs is the test's. It looks when it is
    waited for, in this thread, which knows the server."""

    def __init__(self, store: Path, database: ServiceDatabase) -> None:
        self._database = database
        self._publisher = Publisher(store, analyse=False)
        self._executor = PrefectExecutor(
            load_settings({"store.path": str(store), "api.worker": False}),
            database,
            self._publisher,
        )
        deploy_pool("cpu")

    def close(self) -> None:
        self._publisher.close()

    def find(self, run_id: str) -> RunRequest:
        """The request after one more look."""
        with contextlib.suppress(ObjectNotFound, UsageError):
            self._executor._look()
        request = find_request(self._database, run_id)
        assert request is not None
        return request

    def started(self, run_id: str) -> str:
        """The request's flow run."""
        flow_run_id = self.find(run_id).flow_run_id
        assert flow_run_id
        return flow_run_id

    def become(self, run_id: str, state: str) -> str:
        """Wait for a state of the request; its reason."""
        deadline = time.monotonic() + 60.0
        while (request := self.find(run_id)).state != state:
            assert time.monotonic() < deadline, request
            time.sleep(0.1)
        return str(request.reason)


@pytest.fixture
def executor(
    store: Path, server: PrefectServer, database: ServiceDatabase, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Looking]:
    monkeypatch.setattr(deployments, "ABANDONED_AFTER_S", 1.0)
    with temporary_settings({PREFECT_API_URL: server.url}):
        executor = Looking(store, database)
        yield executor
        executor.close()


def ask(database: ServiceDatabase, store: Path, run_id: str) -> None:
    settings = dump(load_settings({"store.path": str(store), "run.target": 3}))
    with database.transaction() as connection:
        insert_request(connection, run_id=run_id, method="self-instruct", seed_set=None, seeds=None,
                       settings=settings, requested_by="test")  # fmt: skip


def test_a_flow_run_that_is_gone_keeps_no_other_request_from_its_turn(
    store: Path, server: PrefectServer, database: ServiceDatabase, executor: Looking
) -> None:
    ask(database, store, "lost")
    flow_run = executor.started("lost")
    httpx.delete(f"{server.url}/flow_runs/{flow_run}").raise_for_status()
    ask(database, store, "next")
    assert executor.started("next")
    assert "not known to Prefect's server" in executor.become("lost", "failed")


@pytest.mark.parametrize(
    ("was", "is_cancelled"), [("PENDING", False), ("RUNNING", False), ("RUNNING", True)]
)
def test_a_flow_run_whose_process_was_killed_is_closed(
    store: Path, server: PrefectServer, database: ServiceDatabase, executor: Looking,
    *, was: str, is_cancelled: bool,
) -> None:  # fmt: skip
    run_id = f"killed-{was}-{is_cancelled}"
    ask(database, store, run_id)
    flow_run = executor.started(run_id)
    server.post(f"flow_runs/{flow_run}/set_state", {"state": {"type": was}, "force": True})
    if is_cancelled:
        with database.transaction() as connection:
            ask_to_cancel(connection, run_id)
    assert "nobody has the run" in executor.become(run_id, "failed")
    (row,) = server.post("flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
    assert row["state_type"] == ("CANCELLED" if is_cancelled else "CRASHED")


def test_a_run_that_somebody_has_is_left_alone(
    store: Path, server: PrefectServer, database: ServiceDatabase, executor: Looking
) -> None:
    ask(database, store, "held")
    flow_run = executor.started("held")
    lock = runs_directory(store) / "held.flow" / "lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        running: dict[str, Any] = {"state": {"type": "RUNNING", "name": "Running"}, "force": True}
        server.post(f"flow_runs/{flow_run}/set_state", running)
        for _ in range(3):
            assert executor.find("held").state == "started"
            time.sleep(0.6)
    executor.become("held", "failed")


def test_the_services_worker_logs_as_the_service_does(
    store: Path, server: PrefectServer, database: ServiceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments: list[dict[str, str]] = []

    class Popen:
        stdin = None

        def __init__(self, *unused: Any, env: dict[str, str] | None = None, **more: Any) -> None:
            environments.append(env or dict(os.environ))

        def poll(self) -> None:
            return None

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setenv("EVOLOOM_LOG__FORMAT", "json")
    publisher = Publisher(store, analyse=False)
    with temporary_settings({PREFECT_API_URL: server.url}):
        executor = PrefectExecutor(load_settings({"store.path": str(store)}), database, publisher)
        executor.start()
        executor.close()
    publisher.close()
    assert any("JsonFormatter" in value for value in environments[0].values())
