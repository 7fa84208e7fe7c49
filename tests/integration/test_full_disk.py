"""No room left: the run stops, says so, has lost nothing, and goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import runs
from tests.support.children import run_child
from tests.support.teachers import TeacherFactory

SLOW = ("--latency", "0.002", "0.01")


def check_stopped(child_errors: str) -> None:
    assert "Make room, then `evoloom resume night`" in child_errors
    assert "what was journaled is safe" in child_errors
    assert "Traceback" not in child_errors


def test_a_file_that_cannot_grow_interrupts_the_run(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    # The manifest fits, 200 kB. The spool or the journal does not; the store does not either.
    teacher = scripted_teacher(*SLOW)
    arguments = runs.run_command(store, teacher, store__ingest_interval_s=0.2)
    limit = ("tests.support.full_disk", "limit_files", str(210_000))
    child = run_child(store.parent, *arguments, "--target", "96", "--quiet", patch=limit)
    assert child.wait() == 75, child.errors()
    check_stopped(child.errors())
    state = runs.state_of(store)
    assert state.state == "interrupted"
    assert "File too large" in str(state.reason)
    assert runs.journal_of(store)
    assert runs.resume(store).end.state == "completed"
    seeds = [row["seed"] for row in teacher.requests()]
    lost = len(seeds) - len(set(seeds))
    assert lost <= 16  # what was in flight, or waiting for the write that failed
    whole = store.parent / "whole" / "evoloom.duckdb"
    whole.parent.mkdir()
    assert runs.start(whole, teacher, run__target=96).end.state == "completed"
    assert runs.export_bytes(store) == runs.export_bytes(whole)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 1.2 MB; only root can make one."""
    place = tmp_path / "tiny"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


if os.geteuid() == 0:

    def test_a_file_system_without_room_interrupts_the_run(
        tiny: Path, tmp_path: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teacher = scripted_teacher(*SLOW)
        store = tiny / "evoloom.duckdb"
        arguments = runs.run_command(store, teacher, store__ingest_interval_s=0.2)
        child = run_child(tmp_path, *arguments, "--target", "2000", "--quiet")
        assert child.wait() == 75, child.errors()
        check_stopped(child.errors())
        assert "No space left on device" in child.errors()
        assert runs.journal_of(store)
        before = len(teacher.requests())
        again = run_child(tmp_path, "resume", runs.RUN, "--store", store, "--quiet")
        assert again.wait() in (1, 75)  # 1 where not even the store can be opened
        assert "No space left on device" in again.errors()
        assert "Traceback" not in again.errors()
        assert len(teacher.requests()) <= before + 40  # nothing is bought that cannot be kept
        subprocess.run(["mount", "-o", "remount,size=64m", str(tiny)], check=True)
        done = run_child(
            tmp_path, "resume", runs.RUN, "--store", store, "--quiet",
            "--set", "caps.tokens=1",
        )  # fmt: skip
        assert done.wait() == 75, done.errors()
        assert runs.state_of(store).reason == "cap"
