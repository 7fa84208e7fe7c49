"""Runs over REST where a Prefect server is configured: deployments, flow runs, cancelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.run_directory import read_state, runs_directory
from tests.integration.conftest import TeacherFactory
from tests.support.api import events, serving, settings, task, wait_for
from tests.support.prefect_server import PrefectServer, wait_until
from tests.support.runs import QUICK
from tests.support.workers import Worker

QUICKLY = {key.replace(".", "__"): value for key, value in QUICK.items()}


@pytest.mark.verify_api
def test_a_run_is_a_flow_run_of_a_deployment_and_can_be_cancelled(
    store: Path, server: PrefectServer, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.05", "0.1")
    quick = settings(teacher__base_url=teacher.url, **QUICKLY)
    with serving(store, *quick, env=server.environment()) as service, service.client() as client:
        client.post("/seed-tasks", json=[task(n) for n in range(10)]).raise_for_status()
        client.post("/seed-sets", json={"name": "mine", "filter": {}}).raise_for_status()
        body = {"method": "self-instruct", "seed_set": "mine", "target": 6, "run_id": "night"}
        client.post("/runs", json=body).raise_for_status()

        told = list(events(client, "night", timeout=600))

        assert told[-1][0] == "end" and told[-1][2]["state"] == "completed", told[-1]
        assert client.get("/ready").json()["status"] == "ready"
        (flow_run,) = server.flow_runs(store)
        assert flow_run["deployment_id"] and flow_run["parameters"]["run_id"] == "night"
        assert flow_run["work_pool_name"] == "cpu"
        deployments = {item["id"]: item for item in server.post("deployments/filter", {})}
        # The one that `evoloom worker` has too.
        assert deployments[flow_run["deployment_id"]]["name"] == "cpu"

        client.post("/runs", json={**body, "target": 2000, "run_id": "long"}).raise_for_status()
        wait_for(client, "long", "running", limit_s=600)
        client.post("/runs/long/cancel").raise_for_status()
        wait_for(client, "long", "cancelled", limit_s=600)
        assert read_state(runs_directory(store) / "long").state == "cancelled"

        def is_known() -> bool:
            states = [run["state"]["type"] for run in server.flow_runs(store)]
            return states == ["COMPLETED", "CANCELLED"]

        wait_until(is_known, "the flow run's end")


@pytest.mark.verify_api
def test_a_worker_beside_the_service_executes_its_runs(
    store: Path, server: PrefectServer, scripted_teacher: TeacherFactory, tmp_path: Path
) -> None:
    """`api.worker=false`: the service says that one is needed until there is one."""
    quick = settings(teacher__base_url=scripted_teacher().url, api__worker="false", **QUICKLY)
    with serving(store, *quick, env=server.environment()) as service, service.client() as client:
        client.post("/seed-tasks", json=[task(n) for n in range(10)]).raise_for_status()
        client.post("/seed-sets", json={"name": "mine", "filter": {}}).raise_for_status()
        body = {"method": "self-instruct", "seed_set": "mine", "target": 3, "run_id": "beside"}
        client.post("/runs", json=body).raise_for_status()
        wait_until(lambda: server.flow_runs(store), "the flow run")
        assert not (runs_directory(store) / "beside").exists()
        worker = Worker(server, "cpu", tmp_path)
        try:
            told = list(events(client, "beside", timeout=600))
            assert told[-1][2]["state"] == "completed", told[-1]
            assert client.get("/ready").json()["status"] == "ready"
        finally:
            worker.stop()
