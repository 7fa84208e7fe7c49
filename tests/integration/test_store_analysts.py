"""Four analysts query the snapshot all the time while two runs write and somebody holds the live
file: nobody notices anybody, and in the end everything is in."""

from __future__ import annotations

import json
import time
from pathlib import Path

import duckdb
import pytest

from store.checking import check
from store.run_directory import read_state, runs_directory
from tests.support import runs
from tests.support.analysts import analysts
from tests.support.children import start_child, wait_until
from tests.support.hogs import hog
from tests.support.teachers import TeacherFactory

NIGHTS = ("night-1", "night-2")
SEEDS = {"night-1": 11, "night-2": 12}
KINDS = ("reopen", "hold", "reader", "command")


def counts(store: Path) -> list[tuple[object, ...]]:
    """What the nights came to; surplus depends on the clock."""
    with duckdb.connect(store, read_only=True) as connection:
        return connection.execute(
            "SELECT run_id, state, target, accepted, "
            "(SELECT count(*) FROM instances AS i WHERE i.run_id = r.run_id AND i.state = 'accepted'), "
            "(SELECT list(text ORDER BY position) FROM instructions AS i "
            "WHERE i.run_id = r.run_id AND i.state = 'accepted') "
            "FROM runs AS r WHERE run_id LIKE 'night-%' ORDER BY run_id"
        ).fetchall()


@pytest.mark.parametrize(
    ("target", "latency_s", "least_s"),
    [(16, 0.05, 0), pytest.param(700, 0.2, 120, marks=pytest.mark.verify_store)],
)
def test_nobody_notices_anybody(
    tmp_path: Path, scripted_teacher: TeacherFactory, target: int, latency_s: float, least_s: float
) -> None:
    store, alone = tmp_path / "store" / "evoloom.duckdb", tmp_path / "alone" / "evoloom.duckdb"
    teacher = scripted_teacher("--latency", str(latency_s), str(2 * latency_s))
    for night in NIGHTS:
        runs.start(alone, teacher, run_id=night, run__target=target, run__seed=SEEDS[night])
    runs.start(store, teacher, run_id="earlier", run__target=2)
    with analysts(store, KINDS) as asking:
        started = time.monotonic()
        with hog(store, "read_only"):
            wait_until(lambda: all(analyst.rounds() for analyst in asking), "a first answer")
            children = [
                start_child(
                    tmp_path, "run", "self-instruct", "--target", str(target), "--run-id", night,
                    "--seed", str(SEEDS[night]), "--store", store, "--quiet",
                    *settings(teacher.url),
                )
                for night in NIGHTS
            ]  # fmt: skip
            while (
                any(child.is_running() for child in children)
                or time.monotonic() - started < least_s
            ):
                assert all(analyst.rounds() for analyst in asking)
                time.sleep(0.5)
            assert [child.wait() for child in children] == [0, 0], children[0].errors()
            before = [len(analyst.rounds()) for analyst in asking]
            wait_until(
                lambda: all(len(analyst.rounds()) > count
                            for analyst, count in zip(asking, before, strict=True)),
                "another answer, both runs having ended",
            )  # fmt: skip
            for night in NIGHTS:
                state = read_state(runs_directory(store) / night)
                assert (state.state, state.ingest_pending) == ("completed", True)
            assert all(held == ["earlier"] for analyst in asking for _, held in analyst.rounds())
        done = runs.evoloom("store", "ingest", "--store", store)
        assert done.returncode == 0, done.stderr
        # Who opens anew, or reads through SnapshotReader, moves over by itself.
        everything = sorted(["earlier", *NIGHTS])
        wait_until(
            lambda: all(analyst.rounds()[-1][1] == everything
                        for analyst in asking if analyst.kind != "hold"),
            "the new snapshot",
        )  # fmt: skip
        (store.parent / "stop").touch()
        assert [analyst.wait() for analyst in asking] == [0] * len(KINDS)
        assert asking[KINDS.index("hold")].rounds()[-1][1] == ["earlier"]
    assert check(store).findings == ()
    assert counts(store) == counts(alone)
    for night in NIGHTS:
        assert not read_state(runs_directory(store) / night).ingest_pending
        assert runs.export_bytes(store, night) == runs.export_bytes(alone, night)


def settings(url: str) -> list[str]:
    values = {**runs.QUICK, "teacher.base_url": url, "store.ingest_interval_s": 1}
    return [
        part for key, value in values.items() for part in ("--set", f"{key}={json.dumps(value)}")
    ]


def test_the_interval_alone_decides_when_a_cheap_ingest_comes(
    tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    """With an interval longer than the run nothing is published before its end; with a short one the
    run is seen growing."""
    teacher = scripted_teacher("--latency", "0.1", "0.2")
    generations = {}
    for interval_s in (0.2, 600.0):
        store = tmp_path / str(interval_s) / "evoloom.duckdb"
        result = runs.start(store, teacher, teacher__concurrency=2, run__target=12,
                            store__ingest_interval_s=interval_s)  # fmt: skip
        assert result.end.state == "completed"
        with duckdb.connect(store.with_name("evoloom.snapshot.duckdb"), read_only=True) as snapshot:
            (generations[interval_s],) = snapshot.execute(
                "SELECT generation FROM snapshot"
            ).fetchall()
    assert generations[600.0] == (1,)
    assert generations[0.2] > (1,)
