"""Same manifest, same answers, same bytes: whatever the concurrency, arrival order or hash seed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pipeline.records import ShotRecord
from pipeline.self_instruct.pool import TaskPool
from tests.support import runs
from tests.support.teachers import ROOT, TeacherFactory, TeacherProcess

REDUCED = [(1, "0"), (8, "1"), (64, "2")]
FULL = [(1, "0"), (8, "0"), (64, "0"), (1, "1"), (8, "1"), (64, "1")]


def exports_at(
    folder: Path, teacher: TeacherProcess, conditions: list[tuple[int, str]], target: int
) -> list[bytes]:
    """Export one run made under each (concurrency, PYTHONHASHSEED), two processes at a time."""
    exports = []
    waiting = list(enumerate(conditions))
    while waiting:
        pair, waiting = waiting[:2], waiting[2:]
        stores = [folder / str(number) / "evoloom.duckdb" for number, _ in pair]
        children = []
        for store, (_, (concurrency, hash_seed)) in zip(stores, pair, strict=True):
            store.parent.mkdir()
            arguments = runs.run_command(store, teacher, teacher__concurrency=concurrency)
            arguments += ["--target", str(target), "--quiet"]
            children.append(
                subprocess.Popen(
                    runs.command(*arguments),
                    cwd=ROOT,
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONHASHSEED": hash_seed},
                )
            )
        assert [child.wait() for child in children] == [0] * len(children)
        exports += [runs.export_bytes(store) for store in stores]
    return exports


def assert_identical(exports: list[bytes]) -> None:
    """The comparison: every export is there, is not empty, and is the same bytes."""
    assert len(exports) > 1
    assert exports[0]
    assert set(exports) == {exports[0]}


def test_concurrency_and_hash_seed_change_no_byte(
    tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.0", "0.06")
    assert_identical(exports_at(tmp_path, teacher, REDUCED, target=40))


@pytest.mark.verify
@pytest.mark.verify_run
def test_concurrency_and_hash_seed_change_no_byte_of_a_large_run(
    tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.0", "0.1", "--fault-rate", "0.02")
    assert_identical(exports_at(tmp_path, teacher, FULL, target=400))


def shots_from_all_there_is(pool: TaskPool, g: int) -> list[ShotRecord]:
    """The mutant: shots come from the pool as it stands, not as it stood a window ago."""
    as_it_stands = pool._size_after
    pool._size_after = [len(pool._admitted)] * (g + 1)
    try:
        return published_shots(pool, g)
    finally:
        pool._size_after = as_it_stands


published_shots = TaskPool.shots_for


def test_the_comparison_catches_shots_drawn_from_the_pool_as_it_stands(
    tmp_path: Path, scripted_teacher: TeacherFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = scripted_teacher("--latency", "0.0", "0.06")
    monkeypatch.setattr(TaskPool, "shots_for", shots_from_all_there_is)
    exports = []
    for concurrency in (1, 64):
        store = tmp_path / str(concurrency) / "evoloom.duckdb"
        store.parent.mkdir()
        result = runs.start(store, teacher, teacher__concurrency=concurrency, run__target=40)
        assert result.end.state == "completed"
        exports.append(runs.export_bytes(store))
    with pytest.raises(AssertionError):
        assert_identical(exports)


def test_a_faulty_teacher_changes_no_byte(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--fault-rate", "0.3", "--latency", "0.0", "0.02")
    runs.start(store, teacher)
    assert any(row["status"] == 500 for row in teacher.requests())
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)


def test_another_run_seed_is_another_night(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
) -> None:
    runs.start(store, scripted_teacher(), run__seed=runs.SEED + 1)
    assert runs.export_bytes(store) != runs.export_bytes(undisturbed)
