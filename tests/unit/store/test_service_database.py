"""The service's database from many threads: what a thread opened is not left open when it ends."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier, Thread

import pytest

from store.service import database as module
from store.service.database import ServiceDatabase, ServiceDatabaseError


def open_files(store: Path) -> int:
    """How many descriptors this process has on the database's main file."""
    links = list(Path("/proc/self/fd").iterdir())
    targets = [link.readlink() for link in links if link.is_symlink()]
    return targets.count(module.service_path(store))


def test_threads_that_come_and_go_leave_no_connection_open(tmp_path: Path) -> None:
    store = tmp_path / "evoloom.duckdb"
    with ServiceDatabase(store) as database:
        for _ in range(50):
            thread = Thread(target=database.revision)
            thread.start()
            thread.join()
        assert open_files(store) == 2  # the writer's, and the one that all of them read on
    assert open_files(store) == 0


def test_readers_at_once_have_a_connection_each_and_the_most_are_closed_again(
    tmp_path: Path,
) -> None:
    store = tmp_path / "evoloom.duckdb"
    at_once = 3 * module._MOST_IDLE
    with ServiceDatabase(store) as database:
        together = Barrier(at_once)

        def read() -> sqlite3.Connection:
            with database._reader() as connection:
                together.wait(30)
                assert database.revision() == 0
                return connection

        with ThreadPoolExecutor(at_once) as pool:
            connections = [
                future.result() for future in [pool.submit(read) for _ in range(at_once)]
            ]
        assert len(set(map(id, connections))) == at_once
        assert len(database._idle) == module._MOST_IDLE


def test_what_is_read_is_what_was_committed_last(tmp_path: Path) -> None:
    with ServiceDatabase(tmp_path / "evoloom.duckdb") as database:
        for number in range(1, 4):
            with database.transaction() as connection:
                assert module.next_revision(connection) == number
                assert database.revision() == number - 1
            assert database.revision() == number


def test_a_read_after_the_end_says_so_and_opens_nothing(tmp_path: Path) -> None:
    store = tmp_path / "evoloom.duckdb"
    with closing(ServiceDatabase(store)) as database:
        database.revision()
    with pytest.raises(ServiceDatabaseError, match="cannot be read: the database was closed"):
        database.revision()
    assert open_files(store) == 0
