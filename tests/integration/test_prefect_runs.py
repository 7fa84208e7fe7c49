"""Runs as Prefect flows, on a real Prefect server, with the scripted teacher."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import psutil
import pytest

from store.run_writer import is_held
from store.snapshot import open_snapshot
from tests.integration.conftest import TeacherFactory
from tests.support import runs
from tests.support.children import Child, start_child
from tests.support.prefect_server import PrefectServer, wait_until
from tests.support.teachers import ROOT, TeacherProcess

KEY = "sk-not-for-prefect"
SLOW = ("--latency", "0.1", "0.3")
Flow = Callable[..., Child]


def end_of(flow: Child) -> int:
    """The exit code of a flow's process, once it has ended."""
    wait_until(lambda: not flow.is_running(), "the flow's end")
    return flow.wait()


@pytest.fixture
def start_flow(server: PrefectServer, store: Path) -> Iterator[Flow]:
    """Starts `evoloom run self-instruct` where a Prefect server is configured. Afterwards no process
    of these runs may be left."""
    children: list[Child] = []

    def start(teacher: TeacherProcess, *more: str, **environment: str) -> Child:
        pairs = [f"{key}={value}" for key, value in {**server.environment(), **environment}.items()]
        child = start_child(
            store.parent, *runs.run_command(store, teacher), *more,
            patch=("tests.support.prefect_server", "set_environment", *pairs),
        )  # fmt: skip
        children.append(child)
        return child

    yield start
    left = processes_of(store)
    for process in left:
        process.kill()
    for child in children:
        if child.is_running():
            child.process.kill()
    assert not left


def processes_of(store: Path) -> list[psutil.Process]:
    """The processes that execute runs of a store."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(store) in part for part in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def process_of(teacher: TeacherProcess) -> psutil.Process:
    for process in psutil.process_iter(["cmdline"]):
        if str(teacher.log) in (process.info["cmdline"] or ()):
            return process
    raise AssertionError("the teacher has no process")


def wait_for_answers(teacher: TeacherProcess, count: int) -> None:
    wait_until(lambda: len(teacher.requests()) >= count, f"{count} answers")


def assert_nothing_asked_twice(store: Path, teacher: TeacherProcess) -> None:
    """Every request is a journaled one, but those whose answer a stop cut off; each came once."""
    keys = [request["key"] for request in teacher.requests()]
    assert len(set(keys)) == len(keys)
    assert len(keys) == len(runs.journal_of(store))


def test_what_prefect_knows_of_a_run(
    start_flow: Flow, server: PrefectServer, store: Path, scripted_teacher: TeacherFactory
) -> None:
    """One run in full, then once more with the same id."""
    teacher = scripted_teacher()
    flow = start_flow(teacher, EVOLOOM_TEACHER__API_KEY=KEY)
    assert end_of(flow) == 0, flow.errors()
    assert "try next" in flow.output()
    noise = re.compile(r"prefect|traceback|warning|task run|info", re.IGNORECASE)
    assert not noise.search(flow.errors())

    (flow_run,) = server.flow_runs(store)
    assert flow_run["state"]["type"] == "COMPLETED"
    assert flow_run["name"] == f"self-instruct {runs.TARGET} {runs.RUN}"
    labels = {"evoloom", "self-instruct", f"target:{runs.TARGET}", f"run:{runs.RUN}"}
    assert set(flow_run["tags"]) == labels

    def tasks() -> dict[str, str]:
        return {task["name"].rsplit("-", 1)[0]: task["state_type"]
                for task in server.of_flow_run("task_runs", flow_run)}  # fmt: skip

    # The server takes in the states of tasks after the flow's.
    wait_until(lambda: set(tasks().values()) == {"COMPLETED"} and len(tasks()) == 4, "the tasks")
    assert set(tasks()) == {"prepare", "run", "publish", "report"}

    artifacts = {item["key"]: item for item in server.of_flow_run("artifacts", flow_run)}
    assert artifacts["self-instruct-progress"]["data"] == 100
    report = artifacts["self-instruct-report"]["data"]
    with open_snapshot(store) as connection:
        rows = connection.execute(
            "SELECT subject, stage, outcome, coalesce(reason, ''), count FROM funnel "
            "WHERE run_id = ?", [runs.RUN],
        ).fetchall()  # fmt: skip
    assert ("instructions", "generate", "accepted", "", runs.TARGET) in rows
    table = report[report.index("## Funnel") : report.index("## Tokens")]
    told = [tuple(cell.strip() for cell in line.strip("|").split("|"))
            for line in table.splitlines() if line.startswith("|")][2:]  # fmt: skip
    assert sorted(told) == sorted(tuple(map(str, row)) for row in rows)
    assert f"evoloom export {runs.RUN} --store {store}" in report
    with open_snapshot(store) as connection:
        (counted,) = connection.execute(
            "SELECT instructions, instances FROM dataset_statistics WHERE run_id = ?", [runs.RUN]
        ).fetchall()
    for name, count in zip(("instructions", "instances"), counted, strict=True):
        assert re.search(rf"^\| {name} \| {count} \|", report, re.MULTILINE)
    page = runs.run_path(store).with_name(f"{runs.RUN}.flow") / "report.html"
    assert f"The whole report: `{page}`" in report
    assert page.as_uri() in artifacts["self-instruct-page"]["data"]
    assert runs.RUN in page.read_text()

    wait_until(lambda: server.of_flow_run("logs", flow_run), "the logs")
    everything = [flow_run, artifacts, server.of_flow_run("logs", flow_run)]
    assert KEY not in repr(everything)

    asked = len(teacher.requests())
    before = runs.export_bytes(store)
    again = start_flow(teacher)
    assert again.wait() == 0, again.errors()
    assert len(teacher.requests()) == asked
    assert runs.export_bytes(store) == before
    assert [run["state"]["type"] for run in server.flow_runs(store)] == ["COMPLETED"] * 2


def test_sigterm_to_the_flow_stops_the_run_with_grace(
    start_flow: Flow, server: PrefectServer, store: Path, scripted_teacher: TeacherFactory,
    undisturbed: Path,
) -> None:  # fmt: skip
    teacher = scripted_teacher(*SLOW)
    flow = start_flow(teacher, "--set", "teacher.concurrency=4")
    wait_for_answers(teacher, 10)
    flow.signal(signal.SIGTERM)
    assert end_of(flow) == 75, flow.errors()
    assert not processes_of(store)
    assert not is_held(runs.run_path(store))
    assert runs.state_of(store).state == "interrupted"
    assert f"`evoloom resume {runs.RUN} --store {store}`" in flow.errors()
    (flow_run,) = server.flow_runs(store)
    assert flow_run["state"]["type"] == "FAILED"
    assert f"`evoloom resume {runs.RUN} --store {store}`" in flow_run["state"]["message"]
    # All that was in flight had its time: nothing that was asked is lost.
    assert_nothing_asked_twice(store, teacher)

    assert runs.resume(store).end.state == "completed"
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    assert_nothing_asked_twice(store, teacher)


def test_cancelled_over_the_api_and_started_again_with_the_same_run_id(
    start_flow: Flow, server: PrefectServer, store: Path, scripted_teacher: TeacherFactory,
    undisturbed: Path,
) -> None:  # fmt: skip
    teacher = scripted_teacher(*SLOW)
    flow = start_flow(teacher, "--set", "teacher.concurrency=2")
    wait_for_answers(teacher, 5)
    (flow_run,) = server.flow_runs(store)
    server.post(
        f"flow_runs/{flow_run['id']}/set_state",
        {"state": {"type": "CANCELLING", "name": "Cancelling"}},
    )
    assert end_of(flow) == 75, flow.errors()
    assert not processes_of(store)
    (flow_run,) = server.flow_runs(store)
    assert flow_run["state"]["type"] == "CANCELLED"
    assert runs.state_of(store).state == "cancelled"
    assert_nothing_asked_twice(store, teacher)

    flow = start_flow(teacher)
    assert end_of(flow) == 0, flow.errors()
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    assert_nothing_asked_twice(store, teacher)


def test_sigkill_of_the_flow_leaves_the_run_going_and_the_next_flow_follows_it(
    start_flow: Flow, server: PrefectServer, store: Path, scripted_teacher: TeacherFactory,
    undisturbed: Path,
) -> None:  # fmt: skip
    teacher = scripted_teacher(*SLOW)
    flow = start_flow(teacher, "--set", "teacher.concurrency=4")
    wait_for_answers(teacher, 5)
    flow.signal(signal.SIGKILL)
    end_of(flow)
    assert len(processes_of(store)) == 1
    (child,) = processes_of(store)

    asked_by = process_of(teacher)
    asked_by.suspend()  # so that the run cannot end before the next flow is there
    flow = start_flow(teacher, "--set", "teacher.concurrency=4")
    wait_until(lambda: "accepted" in flow.errors(), "the next flow follows the run")
    assert processes_of(store) == [child]
    asked_by.resume()
    assert end_of(flow) == 0, flow.errors()
    assert not child.is_running()
    assert runs.state_of(store).state == "completed"
    assert not runs.state_of(store).ingest_pending
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    assert_nothing_asked_twice(store, teacher)


def test_a_flow_that_prefect_retries_resumes_its_run(
    start_flow: Flow, server: PrefectServer, store: Path, scripted_teacher: TeacherFactory,
    undisturbed: Path,
) -> None:  # fmt: skip
    teacher = scripted_teacher(*SLOW)
    flow = start_flow(
        teacher, "--set", "teacher.outage_limit_s=0.1", "--set", "teacher.concurrency=4",
        PREFECT_FLOWS_DEFAULT_RETRIES="50", PREFECT_FLOWS_DEFAULT_RETRY_DELAY_SECONDS="1",
    )  # fmt: skip
    wait_for_answers(teacher, 5)
    teacher.kill()
    wait_until(lambda: runs.state_of(store).state == "interrupted", "the interruption")
    teacher.start()
    assert end_of(flow) == 0, flow.errors()
    (flow_run,) = server.flow_runs(store)
    assert flow_run["state"]["type"] == "COMPLETED"
    assert flow_run["run_count"] > 1
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    journaled = {entry.address for entry in runs.journal_of(store)}
    assert len(journaled) == len(runs.journal_of(store))


def test_what_is_wrong_with_the_settings_is_told_as_without_prefect(
    start_flow: Flow, server: PrefectServer, store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher()
    flow = start_flow(teacher, "--set", "teacher.model=other")
    assert end_of(flow) == 2
    assert "other" in flow.errors()
    assert "Traceback" not in flow.errors()
    (flow_run,) = server.flow_runs(store)
    assert flow_run["state"]["type"] == "FAILED"
    assert "other" in flow_run["state"]["message"]
    assert not runs.run_path(store).exists()


def test_without_an_answer_from_the_configured_server_nothing_starts(
    start_flow: Flow, store: Path, scripted_teacher: TeacherFactory
) -> None:
    flow = start_flow(scripted_teacher(), PREFECT_API_URL="http://127.0.0.1:1/api")
    assert end_of(flow) == 2
    assert "http://127.0.0.1:1/api does not answer" in flow.errors()
    assert "Traceback" not in flow.errors()


@pytest.mark.verify_operations
def test_sigkill_of_the_server_does_not_stop_the_run(
    start_flow: Flow, server: PrefectServer, store: Path, scripted_teacher: TeacherFactory,
    undisturbed: Path,
) -> None:  # fmt: skip
    """The last of the module: the server is gone after it."""
    teacher = scripted_teacher(*SLOW)
    flow = start_flow(teacher, "--set", "teacher.concurrency=4")
    wait_for_answers(teacher, 5)
    server.kill()
    assert end_of(flow) == 0, flow.errors()
    assert "was lost" in flow.errors()
    assert "Traceback" not in flow.errors()
    assert "logging" not in flow.errors()
    assert runs.state_of(store).state == "completed"
    assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    assert_nothing_asked_twice(store, teacher)


def test_a_server_for_one_run_alone_leaves_nothing_behind(
    store: Path, scripted_teacher: TeacherFactory, tmp_path: Path
) -> None:
    """`--prefect` where no server is configured, in a home without Prefect."""
    home = tmp_path / "home"
    home.mkdir()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    done = subprocess.run(
        runs.command(*runs.run_command(store, scripted_teacher()), "--prefect"),
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**environment, "HOME": str(home), "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "try next" in done.stdout
    assert "Traceback" not in done.stderr
    assert not (home / ".prefect").exists()
    assert not list(temporary.glob("evoloom-prefect-*"))
    left = [process for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get("TMPDIR") == str(temporary)]  # fmt: skip
    assert not left
    with duckdb.connect(str(store), read_only=True) as connection:
        assert connection.execute("SELECT state FROM runs").fetchall() == [("completed",)]


def test_a_server_for_one_run_alone_ends_with_who_started_it(tmp_path: Path) -> None:
    """Its standard input is a pipe of its starter: it ends when that does, and takes its home."""
    home = tmp_path / "evoloom-prefect-home"
    home.mkdir()
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.prefect_server", "0"], cwd=ROOT, stdin=subprocess.PIPE,
        env={**os.environ, "PREFECT_HOME": str(home),
             "EVOLOOM_TEMPORARY_PREFECT_HOME": str(home)},
    )  # fmt: skip
    assert server.stdin is not None
    server.stdin.close()
    server.wait()
    assert not home.exists()
