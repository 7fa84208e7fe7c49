"""`/metrics` of a real service while a real run goes on, and what it says at the run's end."""

from __future__ import annotations

import json
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.api import serving, settings, task
from tests.support.runs import QUICK, evoloom
from tests.support.teachers import TeacherFactory

QUICKLY = {key.replace(".", "__"): value for key, value in QUICK.items()}
PRICES = {"prices__prompt": 2.0, "prices__completion": 6.0}


def test_the_metrics_of_a_run_end_at_what_its_report_says(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.05", "0.15", "--fault-rate", "0.25")
    flags = settings(teacher__base_url=teacher.url, teacher__concurrency=6, **QUICKLY, **PRICES)
    with serving(store, *flags) as service, service.client() as client:

        def scrape() -> dict[str, dict[tuple[str, ...], float]]:
            """Values by metric and labels, of this run."""
            answer = client.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            found: dict[str, dict[tuple[str, ...], float]] = {}
            for family in text_string_to_metric_families(answer.text):
                for sample in family.samples:
                    labels = dict(sample.labels)
                    if labels.pop("run", None) == "night":
                        assert labels.pop("kind") == "self-instruct"
                        found.setdefault(sample.name, {})[tuple(labels.values())] = sample.value
            return found

        client.post("/seed-tasks", json=[task(n) for n in range(10)]).raise_for_status()
        client.post("/seed-sets", json={"name": "mine", "filter": {}}).raise_for_status()
        body = {"method": "self-instruct", "seed_set": "mine", "target": 20, "run_id": "night"}
        client.post("/runs", json=body).raise_for_status()
        seen: list[dict[str, dict[tuple[str, ...], float]]] = []

        def has_ended() -> bool:
            seen.append(scrape())
            return ("completed",) in seen[-1].get("evoloom_run_state", {})

        deadline = time.monotonic() + 300
        while not has_ended():
            assert time.monotonic() < deadline, seen[-1]
            time.sleep(0.1)
        last = scrape()

    running = [one for one in seen if ("running",) in one.get("evoloom_run_state", {})]
    in_flight = [sum(one["evoloom_run_requests_in_flight"].values()) for one in running
                 if "evoloom_run_requests_in_flight" in one]  # fmt: skip
    assert max(in_flight) > 0
    assert {one["evoloom_run_concurrency"][()] for one in running
            if "evoloom_run_concurrency" in one} <= set(range(1, 7))  # fmt: skip
    shown = json.loads(evoloom("runs", "show", "night", "--store", store, "--json").stdout)
    usage = {(row["stage"],): row for row in shown["usage"]}
    assert last["evoloom_run_requests_total"] == {
        stage: row["requests"] for stage, row in usage.items()
    }
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
        assert last[f"evoloom_run_{name}_total"] == {
            stage: row["usage"][name] for stage, row in usage.items()
        }
    assert sum(last["evoloom_run_cost_total"].values()) > 0
    assert abs(sum(last["evoloom_run_cost_total"].values()) - shown["cost"]) < 1e-5
    assert last["evoloom_run_target"][()] == 20
    assert last["evoloom_run_accepted_total"][()] == shown["accepted"] == 20
    assert last["evoloom_run_concurrency_limit"][()] == 6
    assert last["evoloom_run_retries_total"][()] > 0
    assert set(last["evoloom_run_requests_in_flight"].values()) == {0}
    rejected: dict[tuple[str, ...], int] = {}
    for row in shown["funnel"]:
        # Completions of which nothing came, and instructions of which nothing became.
        is_counted = (row["subject"], row["stage"]) == ("completions", "generate")
        is_counted = is_counted and row["outcome"] != "surplus"
        if row["reason"] and (is_counted or row["subject"] == "instructions"):
            key = (row["reason"],)
            rejected[key] = rejected.get(key, 0) + row["count"]
    assert rejected and last["evoloom_run_rejected_total"] == rejected
