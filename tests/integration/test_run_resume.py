"""SIGKILL at counted events; a resume comes to the bytes of an undisturbed run and asks nothing
twice; DuckDB holds the same rows, also when it is made again from the run directory."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import duckdb
import pytest

from store.rebuild import rebuild
from tests.support import runs
from tests.support.children import run_child
from tests.support.killed_run import DEATHS, EVENTS
from tests.support.stores import dump
from tests.support.teachers import TeacherFactory, TeacherProcess

Kill = tuple[str, int]
PATCH = ("tests.support.killed_run", "install")
INSIDE = [("journal.half", 9), ("spool.half", 7), ("commit.inside", 1), ("publish.renamed", 1)]


def twenty_kills() -> list[list[Kill]]:
    """Every event once, six more of those that come often; every third is followed by another."""
    rng = random.Random("twenty kills")
    # Answers that arrive together share a write: on a quick machine there are some 40.
    last = {"journal": 30, "spool": 15, "commit": 2, "publish": 2}
    drawn = [*EVENTS, *rng.choices([name for name in EVENTS if name[0] in "js"], k=6)]
    kills = [(event, rng.randint(1, last[event.split(".")[0]])) for event in drawn]
    again = [("journal.half", 2), ("spool.half", 1), ("commit.inside", 1)]
    return [
        [kill] if number % 3 else [kill, again[number // 3 % 3]]
        for number, kill in enumerate(kills)
    ]


def kill_and_resume(store: Path, teacher: TeacherProcess, kills: list[Kill]) -> None:
    """Start the run, kill it as often as asked, resume it to its end; no request comes twice."""
    arguments = runs.run_command(
        store, teacher, teacher__concurrency=6, store__ingest_interval_s=0.1
    )
    for event, number in kills:
        asked = len(teacher.requests())
        journaled = runs.sampling_seeds(journal_if_any(store))
        child = run_child(store.parent, *arguments, "--quiet", patch=(*PATCH, event, str(number)))
        # A kill that came late leaves little to do: then a second one may find nothing to count.
        expected = DEATHS if (event, number) == kills[0] else (*DEATHS, 0)
        assert child.wait() in expected, f"not killed at {event} {number}: {child.errors()}"
        assert_not_asked_again(teacher, asked, journaled)
        arguments = ["resume", runs.RUN, "--store", store]
    asked = len(teacher.requests())
    journaled = runs.sampling_seeds(journal_if_any(store))
    child = run_child(store.parent, "resume", runs.RUN, "--store", store, "--quiet")
    assert child.wait() == 0, child.errors()
    assert_not_asked_again(teacher, asked, journaled)


def journal_if_any(store: Path) -> list[Any]:
    return runs.journal_of(store) if runs.run_path(store).exists() else []


def assert_not_asked_again(teacher: TeacherProcess, since: int, journaled: set[int]) -> None:
    """Nothing that stood in the journal before was asked from the `since`-th request on."""
    assert not journaled & {row["seed"] for row in teacher.requests(since)}


def needed_rows(store: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What a store holds of the generation positions before that of the last accepted instruction,
    without what the clock decides. What comes after may be surplus: how much is the clock's choice.
    """
    downstream = "generation < (SELECT max(generation) FROM instructions WHERE state = 'accepted')"
    of_completions = f"completion_id IN (SELECT id FROM completions WHERE {downstream})"
    queries = {
        "completions": "SELECT * EXCLUDE (latency_s, answered_at) FROM completions "
        f"WHERE {downstream}",
        "shots": f"SELECT * FROM shots WHERE {of_completions}",
        "instructions": f"SELECT * FROM instructions WHERE {downstream} OR state = 'accepted'",
        "instances": "SELECT * FROM instances WHERE state = 'accepted'",
        "seed_tasks": "SELECT * FROM seed_tasks",
        "runs": "SELECT run_id, kind, state, reason, target, accepted, run_seed FROM runs",
    }
    with duckdb.connect(store, read_only=True) as connection:
        return {
            name: connection.execute(f"{query} ORDER BY ALL").fetchall()
            for name, query in queries.items()
        }


@pytest.mark.parametrize("kill", INSIDE, ids=lambda kill: kill[0])
def test_a_run_killed_inside_a_write_is_resumed_to_the_same_bytes(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory, kill: Kill
) -> None:
    check(undisturbed, store, scripted_teacher("--latency", "0.01", "0.05"), [kill])


@pytest.mark.verify
@pytest.mark.verify_run
@pytest.mark.parametrize("kills", twenty_kills(), ids=str)
def test_a_run_killed_at_any_of_twenty_points_is_resumed_to_the_same_bytes(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory, kills: list[Kill]
) -> None:
    check(undisturbed, store, scripted_teacher("--latency", "0.01", "0.05"), kills)


def check(undisturbed: Path, store: Path, teacher: TeacherProcess, kills: list[Kill]) -> None:
    kill_and_resume(store, teacher, kills)
    assert runs.state_of(store).state == "completed"
    assert not runs.state_of(store).ingest_pending
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    assert needed_rows(store) == needed_rows(undisturbed)
    ingested = dump(store)
    rebuild(store)
    assert dump(store) == ingested
