"""Runs over REST: started, followed, cancelled, resumed, by real processes and a scripted teacher."""

from __future__ import annotations

import io
import json
import signal
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from store.run_directory import runs_directory
from tests.support.api import ServiceProcess, events, serving, settings, task, wait_for
from tests.support.runs import QUICK, export_bytes, journal_of, sampling_seeds
from tests.support.teachers import TeacherFactory, TeacherProcess

QUICKLY = {key.replace(".", "__"): value for key, value in QUICK.items()}


@pytest.fixture
def teacher(scripted_teacher: TeacherFactory) -> TeacherProcess:
    return scripted_teacher()


@pytest.fixture
def service(store: Path, teacher: TeacherProcess) -> Iterator[ServiceProcess]:
    with serving(store, *settings(teacher__base_url=teacher.url, **QUICKLY)) as service:
        yield service


def submit(client: httpx.Client, count: int = 10, name: str = "mine") -> None:
    """Seed tasks in a set."""
    client.post("/seed-tasks", json=[task(n) for n in range(count)]).raise_for_status()
    client.post("/seed-sets", json={"name": name, "filter": {}}).raise_for_status()


def test_from_seeds_to_a_dataset(service: ServiceProcess, store: Path) -> None:
    with service.client() as client:
        submit(client)
        started = client.post(
            "/runs", json={"method": "self-instruct", "seed_set": "mine", "target": 8, "seed": 3}
        )
        assert started.status_code == 202
        run_id = started.json()["run_id"]
        assert started.headers["location"] == f"/v1/runs/{run_id}"
        assert started.json()["seeds"] == 10
        seen = list(events(client, run_id, params={"from_start": True}))

        assert [name for name, _, _ in seen].count("end") == 1
        assert seen[-1][0] == "end" and seen[-1][2]["state"] == "completed"
        progress = [data for name, _, data in seen if name == "progress"]
        assert progress[-1]["accepted"] == 8
        run = wait_for(client, run_id, "completed")
        assert (run["accepted"], run["target"], run["seed_set"]) == (8, 8, "mine")
        assert run["requested_by"] and run["run_seed"] == 3
        manifest = json.loads((runs_directory(store) / run_id / "manifest.json").read_text())
        assert [seed["id"] for seed in manifest["seeds"]] == [f"task_{n}" for n in range(10)]

        data = client.get(f"/runs/{run_id}/export", params={"format": "alpaca"})
        assert data.content == export_bytes(store, run_id)
        made = client.post("/datasets", json={"name": "night", "inputs": [run_id]})
        assert made.status_code == 201, made.text
        version = made.json()["dataset"]
        assert made.headers["location"] == f"/v1/datasets/{version}"
        assert client.get("/datasets/night").json() == made.json()
        assert client.get("/datasets").json()["items"] == [made.json()]
        for kind in ("alpaca", "sharegpt", "messages", "parquet", "hf", "llama-factory"):
            sent = client.get(f"/datasets/{version}/export", params={"format": kind})
            assert sent.status_code == 200 and sent.content, kind
            if kind in ("hf", "llama-factory"):
                names = zipfile.ZipFile(io.BytesIO(sent.content)).namelist()
                assert len(names) == 2 and all(not name.startswith("/") for name in names)
            known = {"If-None-Match": sent.headers["etag"]}
            again = client.get(
                f"/datasets/{version}/export", params={"format": kind}, headers=known
            )
            assert again.status_code == 304
        part = client.get(f"/datasets/{version}/export", headers={"Range": "bytes=0-9"})
        assert part.status_code == 206 and len(part.content) == 10


def test_a_cancelled_run_is_resumed_and_nothing_is_asked_twice(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.05", "0.1")
    quick = settings(teacher__base_url=teacher.url, teacher__concurrency=2, **QUICKLY)
    with serving(store, *quick) as service, service.client() as client:
        submit(client)
        body = {"method": "self-instruct", "seed_set": "mine", "target": 40, "run_id": "night",
                "seed": 5}  # fmt: skip
        client.post("/runs", json=body).raise_for_status()
        wait_for(client, "night", "running")
        stopped = client.post("/runs/night/cancel")
        assert stopped.status_code == 202
        run = wait_for(client, "night", "cancelled")
        assert run["reason"] == "by a request"
        assert client.post("/runs/night/cancel").status_code == 409
        before = len(journal_of(store))
        assert client.get("/runs/night/export").json()["code"] == "run_not_ended"
        assert client.get("/runs/night/export", params={"partial": True}).status_code == 200

        refused = client.post("/runs/night/resume", json={"settings": {"run": {"target": 9}}})
        assert refused.status_code == 422
        assert client.post("/runs/night/resume").status_code == 202
        run = wait_for(client, "night", "completed")

        assert run["accepted"] == 40 and run["progress"]["replayed"] == before
        asked = [line["seed"] for line in teacher.requests() if line["status"] == 200]
        assert len(asked) - len(set(asked)) <= 2  # in flight when the grace time ended
        assert sampling_seeds(journal_of(store)) <= set(asked)
        assert list(events(client, "night"))[-1][0] == "end"
        assert client.post("/runs/night/resume").json()["code"] == "run_ended"


def test_runs_wait_their_turn_and_one_that_waits_can_be_cancelled(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.2", "0.3")
    with (
        serving(store, *settings(teacher__base_url=teacher.url, **QUICKLY)) as service,
        service.client() as client,
    ):
        submit(client)
        body = {"method": "self-instruct", "seed_set": "mine", "target": 60}
        for name in ("first", "second", "third"):
            client.post("/runs", json={**body, "run_id": name}).raise_for_status()
        wait_for(client, "first", "running")
        states = {run["run_id"]: run["state"] for run in client.get("/runs").json()["items"]}
        assert states == {"first": "running", "second": "queued", "third": "queued"}
        client.post("/runs/second/cancel").raise_for_status()
        assert wait_for(client, "second", "cancelled")["started_at"] is None
        client.post("/runs/first/cancel").raise_for_status()
        wait_for(client, "third", "running")
        client.post("/runs/third/cancel").raise_for_status()
        wait_for(client, "third", "cancelled")
        assert client.get("/runs", params={"state": "cancelled"}).json()["items"]


def test_a_run_goes_on_while_the_service_is_killed_and_is_known_to_the_next(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.1", "0.2")
    quick = settings(teacher__base_url=teacher.url, **QUICKLY)
    with serving(store, *quick) as service:
        key = service.key()
        with service.client(key=key) as client:
            submit(client)
            body = {"method": "self-instruct", "seed_set": "mine", "target": 30, "run_id": "night"}
            client.post("/runs", json=body).raise_for_status()
            wait_for(client, "night", "running")
        (lock,) = runs_directory(store).glob("night.flow/lock")
        assert psutil.Process(int(lock.read_text())).nice() == 10  # who reads goes first
        service.stop(signal.SIGKILL)
        with serving(store, *quick) as next_service, next_service.client(key=key) as client:
            run = wait_for(client, "night", "completed")
            assert run["accepted"] == 30
    entries = journal_of(store)
    assert len({entry.address for entry in entries}) == len(entries)


def test_fifty_identical_posts_with_one_key_make_one_run(service: ServiceProcess) -> None:
    with service.client() as client:
        submit(client)
    key = service.key()
    body = {"method": "self-instruct", "seed_set": "mine", "target": 2}
    barrier = threading.Barrier(50)

    def post(_: int) -> httpx.Response:
        with service.client(key=key) as client:
            barrier.wait()
            return client.post("/runs", json=body, headers={"Idempotency-Key": "one"})

    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(post, range(50)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 49
    with service.client(key=key) as client:
        assert len(client.get("/runs").json()["items"]) == 1
        other = client.post("/runs", json={**body, "target": 3}, headers={"Idempotency-Key": "one"})
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        wait_for(client, answers[0].json()["run_id"], "completed")


WRONG_RUNS = [
    ({"method": "nothing"}, "method"),
    ({"method": "self-instruct", "target": 0}, "target"),
    ({"method": "self-instruct", "target": 10**8}, "target"),
    ({"method": "self-instruct", "target": True}, "target"),
    ({"method": "self-instruct", "colour": 1}, "colour"),
    ({"method": "self-instruct", "run_id": "../x"}, "run_id"),
    ({"method": "self-instruct", "run_id": "a@b"}, "run_id"),
    ({"method": "self-instruct", "source": "night"}, "source"),
    ({"method": "self-instruct", "target": 1, "settings": {"run": {"target": 2}}},
     "settings.run.target"),
    ({"method": "self-instruct", "settings": {"teacher": {"base_url": "http://127.0.0.1:1/v1"}}},
     "settings.teacher.base_url"),
    ({"method": "self-instruct", "settings": {"seeds": {"file": "/etc/passwd"}}},
     "settings.seeds.file"),
    ({"method": "self-instruct", "settings": {"prompts": {"directory": "/etc"}}},
     "settings.prompts.directory"),
    ({"method": "self-instruct", "settings": {"store": {"path": "/tmp/x"}}}, "settings.store.path"),
    ({"method": "self-instruct", "settings": {"engine": {"model_path": "/"}}},
     "settings.engine.model_path"),
    ({"method": "self-instruct", "settings": {"novelty": {"threshold": 7}}},
     "settings.novelty.threshold"),
    ({"method": "self-instruct", "settings": {"novelty": {"thresh": 0.7}}},
     "settings.novelty.thresh"),
    ({"method": "evol-instruct"}, "source"),
    ({"method": "evol-instruct", "source": "no-such-run"}, "source"),
    ({"method": "evol-instruct", "source": "README.md"}, "source"),
    ({"method": "self-instruct", "seed_set": "two"}, "seed_set"),
]  # fmt: skip


def test_a_wrong_run_is_refused_by_its_field_and_nothing_is_started(
    service: ServiceProcess, store: Path
) -> None:
    with service.client() as client:
        client.post("/seed-tasks", json=[task(n) for n in range(2)]).raise_for_status()
        client.post("/seed-sets", json={"name": "two", "filter": {}}).raise_for_status()
        for body, field in WRONG_RUNS:
            refused = client.post("/runs", json=body)
            assert refused.status_code == 422, (body, refused.text)
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["errors"][0]["field"] == field, (body, refused.text)
        missing = client.post("/runs", json={"method": "self-instruct", "seed_set": "none"})
        assert (missing.status_code, missing.json()["code"]) == (404, "seed_set_not_found")
        assert client.get("/runs").json()["items"] == []
    assert not list(runs_directory(store).glob("*"))


def test_a_run_without_a_teacher_fails_and_says_why(store: Path) -> None:
    quick = settings(teacher__base_url="http://127.0.0.1:9/v1", **QUICKLY)
    with serving(store, *quick) as service, service.client() as client:
        submit(client)
        client.post(
            "/runs", json={"method": "self-instruct", "seed_set": "mine", "run_id": "night"}
        ).raise_for_status()
        seen = list(events(client, "night"))
        assert seen[-1][0] == "end" and seen[-1][2]["state"] == "failed"
        run = client.get("/runs/night").json()
        assert "127.0.0.1:9" in run["reason"]


def test_a_stream_goes_on_where_it_broke_off(service: ServiceProcess) -> None:
    with service.client() as client:
        submit(client)
        client.post(
            "/runs",
            json={"method": "self-instruct", "seed_set": "mine", "target": 8, "run_id": "night"},
        ).raise_for_status()
        seen = list(events(client, "night", params={"from_start": True}))
        progress = [(place, data) for name, place, data in seen if name == "progress"]
        assert len(progress) > 1
        rest = list(events(client, "night", headers={"Last-Event-ID": progress[0][0]}))
        assert [data for name, _, data in rest if name == "progress"] == [
            data for _, data in progress[1:]
        ]
        assert client.get("/runs/nothing/events").status_code == 404
