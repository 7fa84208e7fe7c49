"""`evoloom up`: everything from nothing to healthy and back, and what dies meanwhile.

A real Prefect server, real workers, the real API; the teacher is the scripted one, a process of its own.
The tests of this module share one `up`, in order.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import runs
from tests.support.prefect_server import wait_until
from tests.support.teachers import TeacherProcess, running_teacher
from tests.support.up import Up

SLOW = ("--latency", "0.2", "0.4")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeacherProcess]:
    with running_teacher(tmp_path_factory.mktemp("teacher") / "log", *SLOW) as process:
        yield process


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, teacher: TeacherProcess) -> Iterator[Up]:
    store = tmp_path_factory.mktemp("up") / "evoloom.duckdb"
    up = Up(store, "--set", f"teacher.base_url={teacher.url}", "--set", "store.analyse=false")
    up.start()
    yield up
    up.clean()


def wait_for_more(teacher: TeacherProcess, count: int) -> None:
    before = len(teacher.requests())
    wait_until(lambda: len(teacher.requests()) >= before + count, f"{count} more answers")


def test_from_nothing_to_healthy(up: Up) -> None:
    done = up.evoloom("up", "--status")
    assert done.returncode == 0, done.stdout
    for name in ("prefect", "worker-cpu", "steward", "api"):
        assert f"{name:<12} healthy" in done.stdout
        assert (up.state / "logs" / f"{name}.log").exists()
    addresses = up.status()["addresses"]
    assert httpx.get(f"{addresses['api']}/health").json()["status"] == "alive"
    printed = up.printed.read_text()
    assert all(address in printed for address in addresses.values())
    began = [line.split(":")[0] for line in printed.splitlines() if line.endswith(": healthy")]
    assert began == ["prefect", "worker-cpu", "steward", "api"]

    second = up.evoloom("up")
    assert second.returncode == 2
    assert f"process {up.pid}" in second.stderr


def test_whatever_is_killed_the_run_goes_on_by_itself(
    up: Up, teacher: TeacherProcess, undisturbed: Path
) -> None:
    """One run, during which worker, server, writer and teacher are killed, one after the other."""
    flow_run = up.ask_for_run(teacher, "tough", concurrency=2)
    wait_for_more(teacher, 8)
    up.kill_service("worker-cpu")
    wait_for_more(teacher, 4)
    up.kill_service("prefect")
    wait_for_more(teacher, 4)
    writer = up.run_process("tough")
    os.kill(writer, signal.SIGKILL)
    wait_until(lambda: up.run_process("tough") != writer, "the next process of the run")
    wait_for_more(teacher, 4)
    assert up.run_state("tough") == "running"
    teacher.kill()
    wait_until(lambda: up.run_state("tough") == "paused", "the run notices")
    teacher.start(*SLOW)
    wait_until(lambda: up.run_state("tough") == "completed", "the run's end")
    assert runs.export_bytes(up.store, "tough") == runs.export_bytes(undisturbed)
    # Its flow outlived the worker, and nobody but the flow has started the run's process again.
    assert "tough" not in up.log("steward")
    wait_until(up.is_healthy, "everything is healthy again")
    wait_until(lambda: up.flow_run_state(flow_run) == "COMPLETED", "Prefect knows of it")


@pytest.mark.verify_operations
def test_after_sigkill_of_everything_a_second_up_takes_the_run_up_again(
    up: Up, teacher: TeacherProcess, undisturbed: Path
) -> None:
    """As when the machine goes down: neither flow nor run are there any more."""
    up.ask_for_run(teacher, "unlucky", concurrency=4)
    wait_for_more(teacher, 8)
    up.kill_everything()
    assert up.run_state("unlucky") == "running"
    up.start()
    wait_until(lambda: up.run_state("unlucky") == "completed", "the run's end")
    assert runs.export_bytes(up.store, "unlucky") == runs.export_bytes(undisturbed)


def test_sigkill_of_the_supervisor_ends_its_services_and_not_its_runs(
    up: Up, teacher: TeacherProcess, undisturbed: Path
) -> None:
    flow_run = up.ask_for_run(teacher, "orphan", concurrency=4)
    wait_for_more(teacher, 8)
    services = {row["pid"] for row in up.status()["services"]}
    up.kill()
    wait_until(lambda: not services & {each.pid for each in up.processes()}, "the services' end")
    wait_for_more(teacher, 4)
    up.start()
    wait_until(lambda: up.run_state("orphan") == "completed", "the run's end")
    assert runs.export_bytes(up.store, "orphan") == runs.export_bytes(undisturbed)
    wait_until(lambda: up.flow_run_state(flow_run) == "COMPLETED", "Prefect knows of it")


def test_down_leaves_nothing_and_its_runs_can_be_resumed(
    up: Up, teacher: TeacherProcess, undisturbed: Path
) -> None:
    """The last that needs it up."""
    teacher.kill()
    teacher.start("--latency", "0.8", "1.2")  # it is to be at work still when told
    before = len(teacher.requests())
    up.ask_for_run(teacher, "stopped", concurrency=1)
    wait_for_more(teacher, 3)
    done = up.evoloom("down")
    assert done.returncode == 0, done.stderr
    assert up.wait() == 0
    assert up.processes() == []
    assert runs.state_of(up.store, "stopped").reason == "SIGTERM"
    asked = [row["seed"] for row in teacher.requests(before)]
    assert runs.sampling_seeds(runs.journal_of(up.store, "stopped")) == set(asked)

    teacher.kill()
    teacher.start()
    assert runs.resume(up.store, run_id="stopped").end.state == "completed"
    assert runs.export_bytes(up.store, "stopped") == runs.export_bytes(undisturbed)
    assert up.evoloom("up", "--status").returncode == 1
    assert "nothing runs here" in up.evoloom("down").stdout


def test_in_the_background_with_logs_in_json(up: Up) -> None:
    """It says on standard output what people read, and keeps JSON lines."""
    done = up.start_detached("--set", "log.format=json")
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.splitlines()
    assert "prefect: healthy" in printed
    status = up.status()
    assert f"process {status['pid']}" in printed[-1] and "`evoloom down`" in printed[-1]
    assert up.evoloom("up", "--status").returncode == 0
    started = up.log("supervisor").splitlines()[-len(printed) + 1 :]
    assert [json.loads(line)["message"] for line in started] == printed[:-1]

    up.kill_service("prefect")
    wait_until(lambda: '"message": "Prefect cannot be asked' in up.log("steward"), "its line")

    assert up.evoloom("down").returncode == 0
    assert up.processes() == []
