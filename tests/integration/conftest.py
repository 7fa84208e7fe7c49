"""Fixtures of the integration tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import runs
from tests.support.prefect_server import PrefectServer
from tests.support.teachers import TeacherFactory, TeacherProcess, running_teacher


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set for evoloom is no part of a test."""
    for name in list(os.environ):
        if name.startswith("EVOLOOM_"):
            monkeypatch.delenv(name)


@pytest.fixture
def scripted_teacher(tmp_path: Path) -> Iterator[TeacherFactory]:
    """Starts scripted teachers with the options given; they end with the test."""
    with ExitStack() as stack:
        started = 0

        def start(*options: str) -> TeacherProcess:
            nonlocal started
            started += 1
            log = tmp_path / f"teacher-{started}.log"
            return stack.enter_context(running_teacher(log, *options))

        yield start


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the run that `runs.start` starts, from its beginning to its end, undisturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with running_teacher(folder / "teacher.log") as teacher:
        result = runs.start(folder / "evoloom.duckdb", teacher)
    assert result.end.state == "completed"
    return folder / "evoloom.duckdb"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store can be."""
    return tmp_path / "evoloom.duckdb"


@pytest.fixture(scope="session")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the same run, interrupted by a cap about half-way; tests take copies."""
    folder = tmp_path_factory.mktemp("interrupted")
    with running_teacher(folder / "teacher.log") as teacher:
        result = runs.start(folder / "evoloom.duckdb", teacher, caps__tokens=30_000)
    assert (result.end.state, result.end.reason) == ("interrupted", "cap")
    return folder / "evoloom.duckdb"


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    server = PrefectServer(tmp_path_factory.mktemp("prefect"))
    yield server
    server.kill()


@pytest.fixture
def server(_server: PrefectServer) -> PrefectServer:
    """The session's Prefect server, running; a test may kill it."""
    _server.start()
    return _server
