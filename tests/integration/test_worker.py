"""`evoloom worker`: the work pools and their deployments on a real Prefect server, and a run by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.deployments import POOLS, load_flow
from store.run_directory import is_run, read_state, runs_directory
from tests.support.cli import InProcess, clean
from tests.support.prefect_server import PrefectServer, wait_until
from tests.support.teachers import TeacherFactory
from tests.support.workers import Worker


@pytest.fixture
def evoloom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> InProcess:
    clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


def _get(server: PrefectServer, path: str) -> Any:
    return httpx.get(f"{server.url}/{path}", timeout=30).raise_for_status().json()


def test_every_flow_of_a_pool_can_be_loaded_and_names_itself() -> None:
    names = {load_flow(entrypoint).name for pool in POOLS.values() for entrypoint in pool}
    assert names == {
        "self-instruct",
        "evol-instruct",
        "curate",
        "nightly",
        "train-student",
        "evaluate-student",
    }


@pytest.mark.verify_operations
def test_a_worker_executes_a_run_that_was_asked_of_its_deployment(
    server: PrefectServer, scripted_teacher: TeacherFactory, store: Path, tmp_path: Path
) -> None:
    teacher = scripted_teacher()
    worker = Worker(server, "cpu", tmp_path, EVOLOOM_LOG__FORMAT="json")
    try:
        worker.wait_until_polling()
        deployment = _get(server, "deployments/name/self-instruct/cpu")
        assert deployment["work_pool_name"] == "cpu"
        settings = {
            "run": {"target": 3},
            "store": {"path": str(store), "analyse": False},
            "teacher": {"base_url": teacher.url},
        }
        server.post(
            f"deployments/{deployment['id']}/create_flow_run",
            {"parameters": {"settings": settings, "run_id": "asked"}},
        )
        wait_until(lambda: is_run(store, "asked"), "the run")
        run_dir = runs_directory(store) / "asked"
        wait_until(lambda: read_state(run_dir).state == "completed", "the run's end")
        # A task finishes, too; what is written after the worker's end nobody hands on.
        end = '"logger": "prefect.flow_runs", "message": "Finished in state'
        wait_until(lambda: end in worker.log.read_text(), "the flow run's end")
    finally:
        worker.stop()
    # Its own lines, those of the flow run, and the log of the run's process; Prefect's greeting is not.
    lines = [line for line in worker.log.read_text().splitlines() if line.startswith("{")]
    said = [json.loads(line) for line in lines]
    assert {"deployment", "log"} <= {line["event"] for line in said}
    assert {line["time"][-6:] for line in said} == {"+00:00"}
    assert {line["run_id"] for line in said if "run_id" in line} == {"asked"}
    assert any(line.get("flow_run_name") == "self-instruct 3 asked" for line in said)
    child = run_dir.with_name("asked.flow") / "log"
    stages = {json.loads(line).get("stage") for line in child.read_text().splitlines()}
    assert {"generate", "classify", "instances"} <= stages


@pytest.mark.verify_operations
def test_the_gpu_pool_has_the_student(server: PrefectServer, tmp_path: Path) -> None:
    worker = Worker(server, "gpu", tmp_path)
    try:
        worker.wait_until_polling()
        for name in ("train-student", "evaluate-student"):
            assert _get(server, f"deployments/name/{name}/gpu")["work_pool_name"] == "gpu"
    finally:
        worker.stop()


def test_a_pool_that_is_not_there_is_refused(evoloom: InProcess) -> None:
    done = evoloom("worker", "--pool", "tpu")
    assert done.code == 2
    assert "there: cpu, gpu" in done.err


def test_without_a_server_it_says_which_variable_names_one(
    evoloom: InProcess, tmp_path: Path
) -> None:
    done = evoloom("worker", PREFECT_HOME=str(tmp_path / "none"))
    assert done.code == 2
    assert "PREFECT_API_URL" in done.err
