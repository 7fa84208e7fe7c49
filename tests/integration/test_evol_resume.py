"""An evolution is a function of its run directory: concurrency, hash seed and SIGKILL change no
byte, neither of one that starts from a file nor of one whose source is a Self-Instruct run."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from store.rebuild import rebuild
from tests.integration.test_evol_instruct import write_source
from tests.support import runs
from tests.support.children import run_child
from tests.support.killed_run import DEATHS, EVENTS
from tests.support.stores import dump
from tests.support.teachers import ROOT, TeacherFactory, TeacherProcess, running_teacher

PATCH = ("tests.support.killed_run", "install")
INSIDE = [(("journal.half", 9), "file"), (("spool.half", 3), "run")]
FLAGS = {"evol_instruct.rounds": 3, "evol_instruct.difficulty": "true"}
SOURCES = ("file", "run")
Kill = tuple[str, int]


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a Self-Instruct run to evolve, and a source file beside it."""
    folder = tmp_path_factory.mktemp("before")
    with running_teacher(folder / "teacher.log") as teacher:
        runs.start(folder / "evoloom.duckdb", teacher, run_id="seeded", run__target=8)
    write_source(folder)
    return folder


@pytest.fixture(scope="session")
def whole(before: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What undisturbed evolutions of both sources export."""
    exports = {}
    for source in SOURCES:
        folder = copy(before, tmp_path_factory.mktemp("whole") / source)
        with running_teacher(folder / "teacher-again.log") as teacher:
            done = subprocess.run(
                runs.command(*arguments(folder, teacher, source)), cwd=ROOT, capture_output=True,
                check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stderr
        exports[source] = runs.export_bytes(folder / "evoloom.duckdb")
    return exports


def copy(before: Path, folder: Path) -> Path:
    shutil.copytree(before, folder, symlinks=True)
    return folder


def arguments(folder: Path, teacher: TeacherProcess, source: str, **flags: object) -> list[str]:
    values = {**runs.QUICK, **FLAGS, "teacher.base_url": teacher.url, **runs.dotted(flags)}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    name = "seeded" if source == "run" else str(folder / "source.jsonl")
    return ["run", "evol-instruct", "--source", name, "--seed", str(runs.SEED), "--quiet",
            "--run-id", runs.RUN, "--store", str(folder / "evoloom.duckdb"), *sets]  # fmt: skip


EVERY_WAY = [(source, concurrency, hash_seed) for source in SOURCES
             for concurrency, hash_seed in ((1, "0"), (1, "7"), (64, "0"), (64, "7"))]  # fmt: skip


def check_bytes(
    before: Path, whole: dict[str, bytes], folder: Path, teacher: TeacherProcess, source: str,
    concurrency: int, hash_seed: str,
) -> None:  # fmt: skip
    copy(before, folder)
    options = arguments(folder, teacher, source, teacher__concurrency=concurrency)
    done = subprocess.run(
        runs.command(*options), cwd=ROOT, capture_output=True, check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert runs.export_bytes(folder / "evoloom.duckdb") == whole[source]


def test_concurrency_and_hash_seed_change_no_byte(
    before: Path, whole: dict[str, bytes], tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.0", "0.05", "--fault-rate", "0.05")
    check_bytes(before, whole, tmp_path / "s", teacher, "file", 64, "7")


@pytest.mark.verify
@pytest.mark.verify_evol
@pytest.mark.parametrize(("source", "concurrency", "hash_seed"), EVERY_WAY)
def test_no_concurrency_and_no_hash_seed_changes_a_byte(
    before: Path, whole: dict[str, bytes], tmp_path: Path, scripted_teacher: TeacherFactory,
    source: str, concurrency: int, hash_seed: str,
) -> None:  # fmt: skip
    teacher = scripted_teacher("--latency", "0.0", "0.05", "--fault-rate", "0.05")
    check_bytes(before, whole, tmp_path / "s", teacher, source, concurrency, hash_seed)


def kill_and_resume(folder: Path, teacher: TeacherProcess, source: str, kills: list[Kill]) -> None:
    store = folder / "evoloom.duckdb"
    options = arguments(folder, teacher, source, teacher__concurrency=6,
                        store__ingest_interval_s=0.1)  # fmt: skip
    for event, number in kills:
        asked = len(teacher.requests())
        journaled = journaled_seeds(store)
        child = run_child(folder, *options, patch=(*PATCH, event, str(number)))
        expected = DEATHS if (event, number) == kills[0] else (*DEATHS, 0)
        assert child.wait() in expected, f"not killed at {event} {number}: {child.errors()}"
        assert not journaled & {row["seed"] for row in teacher.requests(asked)}
        options = ["resume", runs.RUN, "--store", str(store), "--quiet"]
    asked, journaled = len(teacher.requests()), journaled_seeds(store)
    child = run_child(folder, "resume", runs.RUN, "--store", store, "--quiet")
    assert child.wait() == 0, child.errors()
    assert not journaled & {row["seed"] for row in teacher.requests(asked)}


def journaled_seeds(store: Path) -> set[int]:
    there = runs.run_path(store).exists()
    return runs.sampling_seeds(runs.journal_of(store)) if there else set()


def check(
    before: Path, whole: dict[str, bytes], folder: Path, teacher: TeacherProcess, source: str,
    kills: list[Kill],
) -> None:  # fmt: skip
    store = copy(before, folder) / "evoloom.duckdb"
    kill_and_resume(store.parent, teacher, source, kills)
    assert runs.state_of(store).state == "completed"
    assert runs.export_bytes(store) == whole[source]
    ingested = dump(store)
    rebuild(store)
    assert dump(store) == ingested


@pytest.mark.parametrize(("kill", "source"), INSIDE)
def test_an_evolution_killed_inside_a_write_is_resumed_to_the_same_bytes(
    before: Path, whole: dict[str, bytes], tmp_path: Path, scripted_teacher: TeacherFactory,
    kill: tuple[str, int], source: str,
) -> None:  # fmt: skip
    teacher = scripted_teacher("--latency", "0.01", "0.05")
    check(before, whole, tmp_path / "store", teacher, source, [kill])


def twenty_kills() -> list[list[tuple[str, int]]]:
    """Every event once, six more of those that come often; every third is followed by another."""
    rng = random.Random("twenty kills of an evolution")
    last = {"journal": 20, "spool": 4, "commit": 1, "publish": 1}
    drawn = [*EVENTS, *rng.choices([name for name in EVENTS if name[0] in "js"], k=6)]
    kills = [(event, rng.randint(1, last[event.split(".")[0]])) for event in drawn]
    again = [("journal.half", 2), ("spool.half", 1), ("commit.inside", 1)]
    return [
        [kill] if number % 3 else [kill, again[number // 3 % 3]]
        for number, kill in enumerate(kills)
    ]


@pytest.mark.verify
@pytest.mark.verify_evol
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kills", twenty_kills(), ids=str)
def test_an_evolution_killed_at_any_of_twenty_points_is_resumed_to_the_same_bytes(
    before: Path, whole: dict[str, bytes], tmp_path: Path, scripted_teacher: TeacherFactory,
    kills: list[tuple[str, int]], source: str,
) -> None:  # fmt: skip
    teacher = scripted_teacher("--latency", "0.01", "0.05")
    check(before, whole, tmp_path / "store", teacher, source, kills)


def test_a_resume_needs_the_source_no_more(
    before: Path, whole: dict[str, bytes], tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    folder = copy(before, tmp_path / "store")
    teacher = scripted_teacher()
    done = subprocess.run(
        runs.command(*arguments(folder, teacher, "file", caps__tokens=9000)), cwd=ROOT,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr
    (folder / "source.jsonl").unlink()
    runs.resume(folder / "evoloom.duckdb", caps__tokens=10_000_000)
    assert runs.export_bytes(folder / "evoloom.duckdb") == whole["file"]
