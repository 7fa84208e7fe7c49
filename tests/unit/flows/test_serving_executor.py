"""What the service's own executor makes of requests; the run's process is a few lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.serving import executor as executors
from flows.serving.commands import Publisher
from flows.serving.executor import ProcessExecutor, settings_of
from flows.supervision import StoppedEarlyError
from pipeline.config import Settings, dump, load_settings
from store.service.database import ServiceDatabase
from store.service.run_requests import ask_to_cancel, find_request, insert_request


def ask(database: ServiceDatabase, settings: Settings, run_id: str) -> None:
    with database.transaction() as connection:
        insert_request(
            connection, run_id=run_id, method="self-instruct", seed_set=None, seeds=None,
            settings=dump(settings), requested_by="test",
        )  # fmt: skip


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline, "hangs"
        time.sleep(0.01)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return load_settings({"store.path": str(tmp_path / "evoloom.duckdb")})


@pytest.fixture
def database(settings: Settings) -> Iterator[ServiceDatabase]:
    with ServiceDatabase(settings.store.path) as database:
        yield database


@pytest.fixture
def executor(
    settings: Settings, database: ServiceDatabase, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ProcessExecutor]:
    """With runs that wait until they are told to stop."""

    class Waiting:
        def __init__(self, *arguments: Any, niceness: int) -> None:
            self._should_stop = arguments[4]

        def run(self) -> None:
            until(self._should_stop)
            raise StoppedEarlyError("", 75)

    monkeypatch.setattr(executors, "Supervisor", Waiting)
    monkeypatch.setattr(executors, "_AGAIN_S", 0.02)
    publisher = Publisher(settings.store.path, analyse=False)
    executor = ProcessExecutor(settings, database, publisher)
    executor.start()
    yield executor
    executor.close()
    publisher.close()


def test_teacher_and_store_are_those_that_the_service_has_now(
    settings: Settings, database: ServiceDatabase, tmp_path: Path
) -> None:
    moved = {"store.path": str(tmp_path / "old" / "evoloom.duckdb"), "run.target": 7,
             "teacher.base_url": "http://127.0.0.1:1/v1",
             "caps.tokens": 5000}  # fmt: skip
    ask(database, load_settings(moved), "night")
    request = find_request(database, "night")
    assert request is not None
    now = load_settings({
        "store.path": str(settings.store.path), "teacher.concurrency": 3, "caps.tokens": 9,
        "teacher.endpoints": ["http://127.0.0.1:2/v1", "http://127.0.0.1:3/v1"],
        "prices.models.Some-1.5.prompt": 2.0,
    })  # fmt: skip
    found = settings_of(request, now)
    assert found.store.path == settings.store.path
    assert found.teacher.addresses == ("http://127.0.0.1:2/v1", "http://127.0.0.1:3/v1")
    assert found.teacher.concurrency == 3
    assert found.prices.models["Some-1.5"].prompt == 2.0
    # What it was asked for with, and what a request may set.
    assert (found.run.target, found.caps.tokens) == (7, 5000)
    assert not (tmp_path / "old").exists()


def test_a_full_disk_keeps_a_run_waiting_and_no_longer(
    settings: Settings, database: ServiceDatabase, executor: ProcessExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    update = executors.update_request

    def full(*arguments: Any, **values: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(executors, "update_request", full)
    ask(database, settings, "first")
    executor.wake()
    until(lambda: "No space left on device" in (executor.problem() or ""))
    monkeypatch.setattr(executors, "update_request", update)

    def state() -> str:
        request = find_request(database, "first")
        assert request is not None
        return request.state

    until(lambda: state() == "started")
    until(lambda: executor.problem() is None)
    with database.transaction() as connection:
        ask_to_cancel(connection, "first")
    executor.wake()
    until(lambda: state() == "cancelled")
