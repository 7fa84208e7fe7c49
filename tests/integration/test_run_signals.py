"""SIGTERM, SIGINT, and two processes that want the same run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from store.run_writer import PROGRESS, RunTakenError
from tests.support import runs
from tests.support.children import Child, start_child, wait_until
from tests.support.teachers import TeacherFactory, TeacherProcess

NO_CLASSIFICATION = ("--hang", r"Is it classification\?$")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_what_is_in_flight_finishes_and_is_journaled(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory,
    number: signal.Signals, code: int,
) -> None:  # fmt: skip
    teacher = scripted_teacher("--latency", "0.1", "0.3")
    child = start_child(store.parent, *runs.run_command(store, teacher), "--quiet")
    wait_until(lambda: len(teacher.requests()) >= 10, "the run is under way")
    child.signal(number)
    assert child.wait() == code, child.errors()
    state = runs.state_of(store)
    assert (state.state, state.reason) == ("interrupted", number.name)
    answered = {row["seed"] for row in teacher.requests()}
    assert runs.sampling_seeds(runs.journal_of(store)) == answered
    assert runs.resume(store).end.state == "completed"
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    assert len(teacher.requests()) == len({row["seed"] for row in teacher.requests()})


def hanging(store: Path, teacher: TeacherProcess) -> Child:
    """A run that has come to where its teacher does not answer."""
    arguments = runs.run_command(store, teacher, run__grace_s=600, teacher__concurrency=2)
    child = start_child(store.parent, *arguments, "--quiet")
    wait_until(lambda: any(row["status"] == 0 for row in teacher.requests()), "a request hangs")
    return child


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(signal.SIGTERM, signal.SIGINT, 75), (signal.SIGINT, signal.SIGINT, 130)],
)
def test_a_second_signal_ends_it_now(
    store: Path, scripted_teacher: TeacherFactory,
    first: signal.Signals, second: signal.Signals, code: int,
) -> None:  # fmt: skip
    child = hanging(store, scripted_teacher(*NO_CLASSIFICATION))
    child.signal(first)
    time.sleep(0.3)
    assert child.is_running()
    child.signal(second)
    assert child.wait() == code, child.errors()
    assert runs.state_of(store).reason == first.name


def test_of_two_that_resume_at_once_one_does_and_the_other_is_told(
    undisturbed: Path, interrupted: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    store = runs.copy_store(interrupted, tmp_path / "copy")
    # It waits for its first answer until the second one has been told.
    teacher = scripted_teacher("--hang", ".")
    resuming: list[str | Path]
    resuming = ["resume", runs.RUN, "--store", store, "--quiet",
                "--set", f"teacher.base_url={teacher.url}", "--set", "run.grace_s=0",
                "--set", "caps.tokens=10000000"]  # fmt: skip
    pair = [start_child(store.parent, *resuming), start_child(store.parent, *resuming)]
    wait_until(lambda: not all(child.is_running() for child in pair), "one of them is told")
    (told,) = [child for child in pair if not child.is_running()]
    (going_on,) = [child for child in pair if child is not told]
    assert told.wait() == 1
    assert f"is being executed by process {going_on.pid} " in told.errors()
    assert "--wait" in told.errors()
    wait_until(teacher.requests, "the other one asks")
    going_on.signal(signal.SIGTERM)
    assert going_on.wait() == 75, going_on.errors()
    good = scripted_teacher()
    end = runs.resume(store, teacher__base_url=good.url, caps__tokens=10_000_000).end
    assert end.state == "completed"
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)


def test_a_second_process_is_told_who_has_the_run_and_can_wait_for_it(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher(*NO_CLASSIFICATION)
    first = hanging(store, teacher)
    with pytest.raises(RunTakenError, match=rf"process {first.pid} .*--wait"):
        runs.resume(store)
    second = start_child(store.parent, "resume", runs.RUN, "--wait", "--store", store)
    wait_until(lambda: "accepted 0/" in second.errors(), "it follows the first one's progress")
    assert f"process {first.pid}" in second.errors()
    assert second.is_running()
    teacher.kill()
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    teacher.start()
    assert second.wait() == 0, second.errors()
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)


def test_a_log_that_nobody_reads_any_more_stops_no_run(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.05", "0.1")
    reading, writing = os.pipe()
    os.close(reading)
    environment = {"EVOLOOM_STORE__ANALYSE": "false", **os.environ}
    process = subprocess.Popen(
        runs.command(*runs.run_command(store, teacher)), cwd=store.parent, env=environment,
        stderr=writing, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writing)
    assert process.wait() == 0
    assert runs.state_of(store).state == "completed"
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    records = (runs.run_path(store) / PROGRESS).read_text().splitlines()
    assert len(records) > 2
    assert '"state": "completed", "reason": null' in records[-1]
