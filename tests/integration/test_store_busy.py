"""Another process in the way: a hog with the live file open, writers at once, long-lived readers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from store import database
from store.database import StoreBusyError, writer_lock
from store.export import export_run
from store.ingest import ingest
from store.queries import list_runs, show_run
from store.rebuild import rebuild
from store.run_directory import read_state
from store.snapshot import open_snapshot, publish, read_snapshot
from tests.support.hogs import hog
from tests.support.run_directories import SyntheticRun, write_run
from tests.support.stores import dump

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "evoloom.duckdb"
    write_run(path, SyntheticRun("first", positions=6))
    ingest(path)
    publish(path)
    return path


@pytest.mark.parametrize("mode", ["read_only", "read_write"])
def test_a_hog_leaves_the_run_pending_and_everything_readable(
    store: Path, mode: Literal["read_only", "read_write"]
) -> None:
    run_dir = write_run(store, SyntheticRun("night"), ingest_pending=True)
    with hog(store, mode) as pid:
        for command in (ingest, publish):
            with pytest.raises(StoreBusyError) as caught:
                command(store, wait_s=0.1)
            assert caught.value.exit_code == 1
        with pytest.raises(StoreBusyError) as caught:
            ingest(store, ["night"], wait_s=0.1)
        message = str(caught.value)
        assert f"process {pid}" in message
        assert "Not in it yet: night." in message
        assert "the next command that writes to the store ingests it" in message
        assert f"evoloom store ingest --store {store}" in message
        with pytest.raises(StoreBusyError):
            rebuild(store)

        assert read_state(run_dir).ingest_pending
        assert [run.ingest_pending for run in list_runs(store) if run.run_id == "night"] == [True]
        assert show_run(store, "night").summary.accepted == 20
        assert export_run(run_dir, "alpaca", store.with_name("out.jsonl")).instructions == 20
        assert read_snapshot(store).run_ids == ("first",)
    assert [run.run_id for run in ingest(store).runs] == ["night"]
    assert not read_state(run_dir).ingest_pending
    assert publish(store).run_ids == ("first", "night")
    pieces = dump(store)
    rebuild(store)
    assert dump(store) == pieces


def test_only_what_is_flagged_is_named_as_pending(store: Path) -> None:
    for number in range(7):
        write_run(store, SyntheticRun(f"night-{number}", positions=1), ingest_pending=True)
    with hog(store, "read_only"), pytest.raises(StoreBusyError) as caught:
        ingest(store, wait_s=0)
    assert "night-0, night-1, night-2, night-3, night-4 and 2 more" in str(caught.value)
    assert "first" not in str(caught.value)


def test_a_hog_that_leaves_in_time_is_waited_for(store: Path) -> None:
    write_run(store, SyntheticRun("night"))
    code = (
        "import sys, pathlib; from store.ingest import ingest; "
        "ingest(pathlib.Path(sys.argv[1]), wait_s=60)"
    )
    with hog(store, "read_only"):
        waiting = subprocess.Popen([sys.executable, "-c", code, str(store)], cwd=ROOT)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
    assert waiting.wait() == 0
    assert ingest(store).runs == ()


def test_writers_at_once_wait_for_each_other(store: Path) -> None:
    names = [f"night-{number}" for number in range(3)]
    for name in names:
        write_run(store, SyntheticRun(name, seed=len(name), positions=10))
    code = (
        "import sys, pathlib; from store import database; from store.ingest import ingest; "
        "from store.snapshot import publish; database.LOCK_WAIT_S = 600; "
        "path = pathlib.Path(sys.argv[1]); ingest(path, [sys.argv[2]]); publish(path)"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(store), name], cwd=ROOT) for name in names
    ]
    assert [writer.wait() for writer in writers] == [0] * len(names)
    assert read_snapshot(store).run_ids == ("first", *names)
    assert read_snapshot(store).generation == 1 + len(names)


def test_an_evoloom_process_that_writes_too_long_is_named(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0.1)
    with (
        writer_lock(store, "compact"),
        pytest.raises(StoreBusyError, match=r"another evoloom process \(PID \d+, compact\)"),
    ):
        ingest(store)


def test_a_reader_in_another_process_keeps_its_snapshot_for_as_long_as_it_likes(
    store: Path,
) -> None:
    published = read_snapshot(store).path
    with hog(published, "read_only"):
        for _ in range(3):
            publish(store)
        assert not published.exists()
    with open_snapshot(store) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchall() == [(1,)]
