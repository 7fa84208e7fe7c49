"""SIGKILL at counted points inside ingest, publish and rebuild: the snapshot always opens, old or
new, and the next command completes what was begun."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from store.ingest import ingest
from store.rebuild import rebuild
from store.snapshot import open_snapshot, publish, snapshot_link
from tests.support.analysts import WHOLE
from tests.support.run_directories import SyntheticRun, write_run
from tests.support.stores import dump

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = SyntheticRun("old", positions=8), SyntheticRun("new", positions=24, target=10)


def act(store: Path, action: str, kill_at: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.killed", str(store), action, str(kill_at)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def snapshot_runs(store: Path) -> tuple[str, ...]:
    """The runs in the snapshot, after reading every row of it."""
    with open_snapshot(store) as connection:
        connection.execute("SELECT sum(count) FROM funnel").fetchall()
        (row,) = connection.execute("SELECT run_ids FROM snapshot").fetchall()
    return tuple(row[0])


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A folder with a published store of one run, and a second run waiting to be ingested."""
    store = tmp_path / "before" / "evoloom.duckdb"
    write_run(store, OLD)
    ingest(store)
    publish(store)
    write_run(store, NEW, ingest_pending=True)
    return store.parent


def copy(before: Path, name: str) -> Path:
    """The folder again, links and all, under another name."""
    shutil.copytree(before, before.parent / name, symlinks=True)
    return before.parent / name / "evoloom.duckdb"


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.verify_run)])
@pytest.mark.parametrize("action", ["ingest", "publish", "rebuild"])
def test_a_kill_anywhere_is_mended_by_the_next_command(
    before: Path, action: str, kills: int
) -> None:
    expected_store = copy(before, "undisturbed")
    rebuild(expected_store)
    expected = dump(expected_store)
    if action == "publish":
        ingest(before / "evoloom.duckdb")
    whole = act(copy(before, "counted"), action, 0)
    assert whole.returncode == 0, whole.stderr
    points = int(whole.stdout)
    seen = set()
    for number in range(kills):
        kill_at = 1 + number * (points - 1) // (kills - 1)
        store = copy(before, f"{action}-{number}")
        killed = act(store, action, kill_at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        runs = snapshot_runs(store)
        assert runs in (("old",), ("new", "old")), f"killed at point {kill_at} of {points}"
        seen.add(runs)
        ingest(store)
        assert dump(store) == expected, f"killed at point {kill_at} of {points}"
        publish(store)
        assert snapshot_runs(store) == ("new", "old")
        assert dump(snapshot_link(store).resolve()) == expected
        names = [entry.name for entry in store.parent.iterdir()]
        assert [name for name in names if name.startswith(".") or name.endswith(".wal")] == []
        shutil.rmtree(store.parent)
    # The points lie on both sides of the moment when the new snapshot takes the old one's place.
    assert len(seen) == (1 if action == "ingest" else 2)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.verify_run)])
def test_a_kill_during_the_first_ingest_of_all_leaves_a_store_that_opens(
    tmp_path: Path, kills: int
) -> None:
    store = tmp_path / "whole" / "evoloom.duckdb"
    write_run(store, NEW)
    points = int(act(store, "ingest", 0).stdout)
    expected = dump(store)
    for number in range(1, kills + 1):
        store = tmp_path / str(number) / "evoloom.duckdb"
        write_run(store, NEW)
        assert act(store, "ingest", number * points // kills).returncode == -signal.SIGKILL
        ingest(store)
        assert dump(store) == expected


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.verify_store)])
def test_killed_from_outside_at_random_the_snapshot_is_always_whole(
    tmp_path: Path, kills: int
) -> None:
    """The process publishes without pause; the kill falls anywhere, also inside DuckDB's writes."""
    store = tmp_path / "evoloom.duckdb"
    rng = random.Random(2026)
    generation = 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.killed", str(store), "nights", "0"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        first = int(process.stdout.readline())  # it has started, and mended what the last kill left
        started = time.monotonic()
        second = int(process.stdout.readline())
        assert (first > generation, second) == (True, first + 1)
        # Somewhere in the next two times that it publishes.
        time.sleep(rng.uniform(0, 2 * (time.monotonic() - started)))
        process.kill()
        printed, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL
        published = [first, second, *map(int, printed.split())]
        with open_snapshot(store) as connection:
            (generation, run_ids) = connection.execute(
                "SELECT generation, run_ids FROM snapshot"
            ).fetchall()[0]
            # The newest that was reported, or the one that was not reported any more.
            assert generation - published[-1] in (0, 1)
            assert connection.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall() == [
                (run_id,) for run_id in run_ids
            ]
            # Every generation has one run more; the runs of a kill's both sides come in together.
            assert len(run_ids) >= generation - 1
            assert connection.execute(WHOLE).fetchone() == (True,)
            for table in ("instructions", "instances", "completions", "shots"):
                connection.execute(f"SELECT sum(hash(t)::HUGEINT) FROM {table} AS t").fetchall()
    ingest(store)
    pieces = dump(store)
    rebuild(store)
    assert dump(store) == pieces
