"""The whole path over HTTP, with the bundled model in vLLM: from ten seed tasks to a dataset."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.seeds import load_seeds
from pipeline.teacher.engine import Engine
from store.run_directory import runs_directory
from tests.support.api import events, serving, wait_for

TARGET = 2


def test_ten_seed_tasks_become_a_dataset(engine: Engine, tmp_path: Path) -> None:
    store = tmp_path / "evoloom.duckdb"
    seeds = [seed.to_json() for seed in load_seeds(None)[:10]]
    env = {"EVOLOOM_STORE__ANALYSE": "true"}
    with serving(store, env=env) as service, service.client("submit", "read") as client:
        lines = "".join(json.dumps(seed) + "\n" for seed in seeds)
        sent = client.post(
            "/seed-tasks", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        assert sent.json()["ids"] == [seed["id"] for seed in seeds], sent.text
        client.post("/seed-sets", json={"name": "ten", "filter": {}}).raise_for_status()
        body = {"method": "self-instruct", "seed_set": "ten", "target": TARGET, "run_id": "first",
                "seed": 1}  # fmt: skip
        assert client.post("/runs", json=body).status_code == 202

        told = list(events(client, "first", timeout=900))

        assert told[-1][0] == "end" and told[-1][2]["state"] == "completed", told[-1]
        assert [data["accepted"] for name, _, data in told if name == "progress"][-1] == TARGET
        run = wait_for(client, "first", "completed")
        assert (run["accepted"], run["model"]) == (TARGET, engine.model)
        assert sum(stage["completion_tokens"] for stage in run["usage"]) > 0
        manifest = json.loads((runs_directory(store) / "first" / "manifest.json").read_text())
        assert manifest["seeds"] == seeds

        client.post("/datasets", json={"name": "night", "inputs": ["first"]}).raise_for_status()
        rows = [json.loads(line) for line in client.get("/datasets/night/export").iter_lines()]
        assert len({row["instruction"] for row in rows}) == TARGET
        assert all(row["output"] for row in rows)
        found = client.get("/instructions", params={"run": "first", "state": "accepted"}).json()
        assert {item["text"] for item in found["items"]} == {row["instruction"] for row in rows}
        # The run was analysed at its end, by its own process, before the stream ended.
        statistics = client.get("/statistics/verb-noun", params={"run": "first"}).json()
        pairs = [
            (item["verb"], noun["noun"]) for item in statistics["top"] for noun in item["nouns"]
        ]
        shown = [(item["verb"], item["noun"]) for item in found["items"]]
        assert set(pairs) == {pair for pair in shown if None not in pair}
