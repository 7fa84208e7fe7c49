"""The services of docker-compose.yml as processes: their own commands, environment, order and health."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from store.run_directory import read_state, runs_directory
from tests.support.api import task, wait_for
from tests.support.compose import ROOT, ComposeProcesses
from tests.support.postgres import PostgresCluster
from tests.support.prefect_server import wait_until
from tests.support.teachers import TeacherFactory


@pytest.fixture
def services(tmp_path: Path) -> Iterator[ComposeProcesses]:
    """The profile `cpu`, with secrets of its own; nothing is started yet."""
    secrets = tmp_path / "secrets"
    subprocess.run(["sh", ROOT / "scripts" / "make-secrets.sh", secrets], check=True)
    services = ComposeProcesses("cpu", tmp_path, {"DEPLOY_SECRETS": str(secrets)})
    try:
        yield services
    finally:
        services.down()


def admin(services: ComposeProcesses) -> httpx.Client:
    """A client of the service `api`, with the key from the secret's file."""
    headers = {"Authorization": f"Bearer {services.secret('api_admin_key')}"}
    return httpx.Client(base_url=f"{services.url('api')}/v1", headers=headers, timeout=120)


def make_dataset(client: httpx.Client, target: int, seeds: int = 10) -> dict[str, Any]:
    """Seed tasks to a dataset version, all over REST."""
    client.post("/seed-tasks", json=[task(n) for n in range(seeds)]).raise_for_status()
    client.post("/seed-sets", json={"name": "mine", "filter": {}}).raise_for_status()
    body = {"method": "self-instruct", "seed_set": "mine", "target": target, "run_id": "night"}
    client.post("/runs", json=body).raise_for_status()
    run = wait_for(client, "night", "completed", "failed", "ceiling", "interrupted", limit_s=1200)
    assert run["state"] == "completed", run
    made = client.post("/datasets", json={"name": "notes", "inputs": ["night"]})
    dataset: dict[str, Any] = made.raise_for_status().json()
    assert dataset["instructions"] == target
    exported = client.get("/datasets/notes/export", params={"format": "alpaca"})
    assert len(exported.raise_for_status().text.splitlines()) >= target
    return dataset


def flow_runs(services: ComposeProcesses) -> list[dict[str, Any]]:
    """What the Prefect server has in its database."""
    url = f"{services.url('prefect-server')}/api/flow_runs/filter"
    found: list[dict[str, Any]] = httpx.post(url, json={}, timeout=30).raise_for_status().json()
    return found


def test_seeds_become_a_dataset_through_the_services(
    services: ComposeProcesses, scripted_teacher: TeacherFactory
) -> None:
    services.replace("teacher-cpu", scripted_teacher().port)
    services.up("worker", "api")
    assert services.started == ["postgres", "prefect-server", "worker", "api"]
    with httpx.Client(base_url=f"{services.url('api')}/v1") as stranger:
        assert stranger.get("/runs").status_code == 401
    with admin(services) as client:
        make_dataset(client, target=4)
        assert client.get("/ready").json()["status"] == "ready"

    store = services.path("worker", "/data/evoloom.duckdb")
    assert read_state(runs_directory(store) / "night").state == "completed"
    (flow_run,) = flow_runs(services)
    assert flow_run["deployment_id"] and flow_run["parameters"]["run_id"] == "night"
    (cluster,) = services.clusters
    assert counted(services, cluster) == 1
    codes = services.down()
    assert list(codes) == ["api", "worker", "prefect-server", "postgres"]
    assert services.left() == []


def counted(services: ComposeProcesses, cluster: PostgresCluster) -> int:
    """Flow runs, asked of PostgreSQL itself, with the password that Prefect was given."""
    environment = services.environment("postgres")
    port = services.places.ports["postgres", "5432"]
    done = subprocess.run(
        ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", environment["POSTGRES_USER"], "-d",
         environment["POSTGRES_DB"], "-Atc", "SELECT count(*) FROM flow_run"],
        env={**environment, "PGPASSWORD": services.secret("postgres_password")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.verify_operations
def test_seeds_become_a_student_through_the_services(services: ComposeProcesses) -> None:
    """Every service of the profile: vLLM with the bundled model, and a training of a few steps."""
    services.up(*services.services)
    with admin(services) as client:
        make_dataset(client, target=4, seeds=20)
    url = f"{services.url('prefect-server')}/api"
    deployment = httpx.get(f"{url}/deployments/name/train-student/gpu", timeout=30).json()
    tiny = {"max_steps": 3, "batch_size": 1, "max_length": 256, "held_out": 0.3}
    parameters = {"dataset": "notes", "run_id": "student", "settings": {"training": tiny}}
    asked = httpx.post(
        f"{url}/deployments/{deployment['id']}/create_flow_run",
        json={"parameters": parameters}, timeout=30,
    ).raise_for_status().json()  # fmt: skip

    def state() -> str:
        run = httpx.get(f"{url}/flow_runs/{asked['id']}", timeout=30).json()
        return str(run["state"]["type"])

    ended = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    wait_until(lambda: state() in ended, f"the training: {services.tail('trainer-cpu')}")
    assert state() == "COMPLETED", services.tail("trainer-cpu")
    run_dir = runs_directory(services.path("trainer-cpu", "/data/evoloom.duckdb")) / "student"
    assert read_state(run_dir).state == "completed"
    assert (run_dir / "adapter" / "adapter_model.safetensors").stat().st_size
    services.down()
    assert services.left() == []
