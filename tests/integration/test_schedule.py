"""Schedules on a real Prefect server, executed by real workers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from flows.deployments import POOLS, flow_names, load_flow, make_pool
from store.run_directory import read_state, runs_directory
from tests.support import cli
from tests.support.prefect_server import PrefectServer
from tests.support.prefect_server import wait_until as wait_until_server
from tests.support.runs import journal_of
from tests.support.students import cut_model
from tests.support.teachers import ROOT, TeacherFactory, TeacherProcess
from tests.support.workers import Worker

# Prefect's own waits, shortened: of a flow run for a place.
QUICK_SERVER = {
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
}
QUICK = """
[settings.run]
progress_interval_s = 0.1
grace_s = 5.0
[settings.store]
analyse = false
"""


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Look at the server now and then: it has work of its own."""
    wait_until_server(condition, what, every_s=1.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK_SERVER.items():
            patch.setenv(name, value)
        server = PrefectServer(tmp_path_factory.mktemp("prefect"))
        server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def worker(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(server, "cpu", tmp_path_factory.mktemp("worker"), limit=3)
    worker.wait_until_polling()
    yield worker
    worker.stop()


class Schedules:
    """`evoloom schedule` against a server, in this process: importing Prefect takes its time."""

    def __init__(self, server: PrefectServer, folder: Path, evoloom: cli.InProcess) -> None:
        self._server, self._folder, self._evoloom = server, folder, evoloom

    def __call__(self, *arguments: str) -> cli.Ended:
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self._server.url}):
            done = self._evoloom("schedule", *arguments, PREFECT_API_URL=self._server.url)
        assert done.code == 0, done.err
        return done

    def add(self, flow: str, name: str, profile: str, *more: str, cron: str = "0 0 1 1 *") -> Any:
        path = self._folder / f"{name}.toml"
        path.write_text(profile)
        done = self("add", flow, "--name", name, "--cron", cron, "--timezone", "Europe/Berlin",
                    "--profile", str(path), "--store", str(self._folder / "evoloom.duckdb"),
                    "--json", *more)  # fmt: skip
        path.unlink()  # what it holds is in Prefect
        return json.loads(done.out)[0]

    def start(self, name: str) -> str:
        """Start a flow run now; its id."""
        return self("run", name).out.split()[2]

    def listed(self) -> dict[str, Any]:
        return {one["full_name"]: one for one in json.loads(self("list", "--json").out)}


@pytest.fixture
def schedules(
    server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Schedules]:  # fmt: skip
    cli.clean(monkeypatch, tmp_path)
    schedules = Schedules(server, tmp_path, cli.InProcess(monkeypatch, capsys))
    yield schedules
    for name in schedules.listed():
        schedules("remove", name)


def teacher_of(teacher: TeacherProcess, concurrency: int = 4) -> str:
    return f'[settings.teacher]\nbase_url = "{teacher.url}"\nconcurrency = {concurrency}\n'


def flow_run(server: PrefectServer, flow_run_id: str) -> dict[str, Any]:
    (found,) = server.post("flow_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}})
    value: dict[str, Any] = found
    return value


def state_of(server: PrefectServer, flow_run_id: str) -> str:
    return str(flow_run(server, flow_run_id)["state"]["name"])


def wait_for_end(server: PrefectServer, flow_run_id: str, log: Path) -> dict[str, Any]:
    final = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
    wait_until(
        lambda: flow_run(server, flow_run_id)["state_type"] in final, log.read_text()[-3000:]
    )
    return flow_run(server, flow_run_id)


def test_a_store_whose_folder_is_not_here_is_pointed_out(
    schedules: Schedules, tmp_path: Path
) -> None:
    add = ("add", "self-instruct", "--name", "far", "--cron", "0 0 * * *", "--store")
    far = tmp_path / "nowhere" / "evoloom.duckdb"
    assert f"there is no folder {far.parent} on this machine" in schedules(*add, str(far)).out
    assert "there is no folder" not in schedules(*add, str(tmp_path / "near.duckdb")).out


def test_a_worker_executes_what_a_schedule_has_due(
    server: PrefectServer, worker: Worker, schedules: Schedules, store: Path,
    scripted_teacher: TeacherFactory,
) -> None:  # fmt: skip
    profile = QUICK.replace("[settings.run]", "[settings.run]\ntarget = 3")
    made = schedules.add("self-instruct", "each-minute", profile + teacher_of(scripted_teacher()),
                         cron="* * * * *")  # fmt: skip
    assert made["full_name"] == "self-instruct/each-minute"
    assert made["pool"] == "cpu" and made["store"] == str(store) and made["runs_per_store"] == 1

    def begun() -> list[dict[str, Any]]:
        return [run for run in server.flow_runs(store) if run["start_time"]]

    wait_until(begun, "a scheduled flow run")
    schedules("pause", "each-minute")
    due = begun()[0]
    assert due["auto_scheduled"]
    ended = wait_for_end(server, due["id"], worker.log)
    assert ended["state_type"] == "COMPLETED", ended["state"]
    run_id = due["id"]
    assert read_state(runs_directory(store) / run_id).state == "completed"
    with duckdb.connect(store, read_only=True) as connection:
        rows = connection.execute(
            "SELECT state, (SELECT count(*) FROM instructions i WHERE i.run_id = r.run_id "
            "AND state = 'accepted') FROM runs r WHERE run_id = ?", [run_id],
        ).fetchall()  # fmt: skip
    assert rows == [("completed", 3)]
    keys = {item["key"] for item in server.of_flow_run("artifacts", ended)}
    assert {"self-instruct-report", "self-instruct-progress"} <= keys
    assert ended["name"] == f"self-instruct 3 {run_id}"

    listed = schedules.listed()["self-instruct/each-minute"]
    assert listed["is_paused"] and listed["next"] == []
    assert listed["last"]["state"] in ("Completed", "Running")
    assert "paused" in schedules("list").out
    schedules("resume", "self-instruct/each-minute")
    assert len(schedules.listed()["self-instruct/each-minute"]["next"]) == 3


@pytest.mark.verify_operations
def test_flow_runs_of_different_schedules_wait_for_each_other_on_a_store(
    server: PrefectServer, worker: Worker, schedules: Schedules, store: Path, tmp_path: Path,
    scripted_teacher: TeacherFactory,
) -> None:  # fmt: skip
    teacher = scripted_teacher("--latency", "0.5", "0.6")
    profile = QUICK.replace("[settings.run]", "[settings.run]\ntarget = 4") + teacher_of(teacher, 1)
    source = tmp_path / "source.jsonl"
    source.write_text('{"instruction": "Name a bird.", "input": "", "output": "Owl."}\n')
    schedules.add("self-instruct", "first", profile)
    evolve = f'{profile}\n[settings.evol_instruct]\nsource = "{source}"\nrounds = 1\n'
    schedules.add("evol-instruct", "second", evolve)
    first = schedules.start("first")
    wait_until(lambda: state_of(server, first) == "Running", worker.log.read_text())
    second = schedules.start("second")
    wait_until(lambda: state_of(server, second) == "AwaitingConcurrencySlot", "the second waits")
    assert state_of(server, first) == "Running"
    ends = [wait_for_end(server, run, worker.log) for run in (first, second)]
    assert [end["state_type"] for end in ends] == ["COMPLETED", "COMPLETED"]
    assert ends[0]["end_time"] <= ends[1]["start_time"]

    schedules.add("evol-instruct", "second", evolve, "--set", "schedule.runs_per_store=2")
    assert {one["runs_per_store"] for one in schedules.listed().values()} == {2}
    teacher.kill()
    teacher.start("--latency", "3", "4")  # the short one is not to be over when the other begins
    both = [schedules.start("first"), schedules.start("second")]
    wait_until(lambda: {state_of(server, run) for run in both} == {"Running"}, "both at once")
    for run in both:
        server.post(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
        wait_for_end(server, run, worker.log)


def test_cancelling_in_prefect_stops_the_run_and_it_can_be_resumed(
    server: PrefectServer, worker: Worker, schedules: Schedules, store: Path,
    scripted_teacher: TeacherFactory,
) -> None:  # fmt: skip
    teacher = scripted_teacher("--latency", "0.3", "0.5")
    profile = QUICK.replace("[settings.run]", "[settings.run]\ntarget = 6") + teacher_of(teacher, 2)
    schedules.add("self-instruct", "late", profile)
    run = schedules.start("late")
    wait_until(lambda: len(teacher.requests()) >= 4, worker.log.read_text())
    server.post(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    ended = wait_for_end(server, run, worker.log)
    assert ended["state_type"] == "CANCELLED", ended["state"]
    wait_until(
        lambda: read_state(runs_directory(store) / run).state == "cancelled", "the run's end"
    )

    deployment = ended["deployment_id"]
    parameters = {**ended["parameters"], "run_id": run}
    again = server.post(f"deployments/{deployment}/create_flow_run", {"parameters": parameters})
    assert wait_for_end(server, again["id"], worker.log)["state_type"] == "COMPLETED"
    assert read_state(runs_directory(store) / run).state == "completed"
    keys = [request["key"] for request in teacher.requests()]
    assert len(set(keys)) == len(keys) == len(journal_of(store, run))


@pytest.mark.verify_operations
def test_a_nightly_goes_from_seeds_to_a_student_in_the_gpu_pool(
    server: PrefectServer, worker: Worker, schedules: Schedules, store: Path, tmp_path: Path,
    scripted_teacher: TeacherFactory,
) -> None:  # fmt: skip
    teacher = scripted_teacher()
    base = cut_model(tmp_path / "cut")
    profile = f"""
steps = ["self-instruct", "evol-instruct", "curate", "train"]
student_pool = "gpu"
{QUICK}{teacher_of(teacher)}
[self_instruct.settings.run]
target = 5
[evol_instruct.settings.evol_instruct]
rounds = 1
[curate]
dataset = "nightly"
[train.settings.training]
base = "{base}"
max_steps = 2
batch_size = 1
max_length = 128
too_long = "truncate"
held_out = 0.2
"""
    schedules.add("nightly", "chain", profile)
    gpu = Worker(server, "gpu", tmp_path)
    try:
        gpu.wait_until_polling()
        run = schedules.start("chain")
        ended = wait_for_end(server, run, worker.log)
        assert ended["state_type"] == "COMPLETED", ended["state"]
    finally:
        gpu.stop()
    assert ended["name"] == f"nightly self-instruct to train {run}"
    assert {"evoloom", "nightly", f"run:{run}", "step:train"} <= set(ended["tags"])
    tables = [item for item in server.of_flow_run("artifacts", ended)
              if item["key"] == "nightly-steps"]  # fmt: skip
    table = max((json.loads(item["data"]) for item in tables), key=len)
    assert [row["step"] for row in table] == ["self-instruct", "evol-instruct", "curate", "train"]
    assert {row["state"] for row in table} == {"completed"}
    assert table[0]["counts"] == "5 of 5 accepted"
    trained = runs_directory(store) / f"{run}-train"
    assert read_state(trained).state == "completed"
    manifest = json.loads((trained / "manifest.json").read_bytes())
    assert manifest["dataset"] == table[2]["made"]
    students = server.post(
        "flow_runs/filter", {"flow_runs": {"tags": {"all_": [f"run:{run}-train"]}}}
    )
    assert [student["work_pool_name"] for student in students] == ["gpu"]


def test_prefect_deploy_makes_the_deployments_of_the_workers(
    server: PrefectServer, worker: Worker
) -> None:
    """`prefect deploy --all` in a checkout, Prefect's own way."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    value = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    told = {
        (one["flow_name"], one["entrypoint"], one["work_pool"]["name"])
        for one in value["deployments"]
    }
    assert told == {(name, entry, pool) for name, (pool, entry) in flow_names().items()}
    assert all(one["name"] == one["work_pool"]["name"] for one in value["deployments"])
    for pool in POOLS:
        with temporary_settings({PREFECT_API_URL: server.url}):
            make_pool(pool)
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], cwd=ROOT,
        env=cli.environment(server.environment()), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    there = {(one["entrypoint"], one["name"]) for one in server.post("deployments/filter", {})}
    assert {(entry, pool) for pool, entry in flow_names().values()} <= there


def test_the_names_of_flows_are_those_of_their_functions() -> None:
    assert {name: load_flow(entry).name for name, (_, entry) in flow_names().items()} == {
        name: name for name in flow_names()
    }
