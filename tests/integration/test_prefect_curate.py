"""The flow `curate` on a real Prefect server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from store.run_directory import list_run_ids, runs_directory
from tests.support import cli
from tests.support.prefect_server import PrefectServer, wait_until
from tests.support.teachers import ROOT, TeacherFactory

JUDGED = '[[steps]]\nstep = "quality"\nthreshold = 1.0\nunrated = "keep"\n'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with the import `rows`."""
    store = tmp_path / "evoloom.duckdb"
    rows = ({"instruction": f"Say the number {n} in words, twice.", "input": "", "output": f"{n} {n}"}
            for n in range(12))  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "judged.toml").write_text(JUDGED)
    done = cli.command(
        "import", "rows.jsonl", "--name", "rows", "--store", str(store), cwd=tmp_path
    )
    assert done.code == 0, done.err
    return store


def start_flow(server: PrefectServer, folder: Path, **parameters: object) -> subprocess.Popen[str]:
    """Call the flow in a process of its own."""
    code = (
        "import json, sys; from flows.prefect_curation import curate; "
        "print(curate(**json.loads(sys.argv[1])))"
    )
    with (folder / "flow.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(parameters)],
            cwd=ROOT, env=cli.environment(server.environment()), stdout=subprocess.PIPE,
            stderr=log, text=True,
        )  # fmt: skip


def test_a_flow_run_makes_a_version_and_leaves_its_card(
    server: PrefectServer, store: Path, tmp_path: Path
) -> None:
    settings = {"store": {"path": str(store), "analyse": False}}
    flow = start_flow(server, tmp_path, name="fine", sources=["rows"], settings=settings)
    out, _ = flow.communicate(timeout=600)
    assert flow.returncode == 0, (tmp_path / "flow.log").read_text()
    (version,) = (run for run in list_run_ids(runs_directory(store)) if run.startswith("fine@"))
    assert out.strip() == version
    (flow_run,) = (run for run in server.post("flow_runs/filter", {})
                   if run["parameters"].get("name") == "fine")  # fmt: skip
    assert flow_run["state_type"] == "COMPLETED"
    assert {"evoloom", "curate"} <= set(flow_run["tags"])
    artifacts = {item["key"]: item for item in server.of_flow_run("artifacts", flow_run)}
    assert f"# {version}" in artifacts["curate-card"]["data"]
    assert "## Statistics" in artifacts["curate-card"]["data"]
    assert "report.html" in artifacts["curate-page"]["data"]
    assert {"evoloom", "curate", f"dataset:{version}"} <= set(flow_run["tags"])
    assert artifacts["curate-progress"]["description"].startswith("step 5 of 5, decontamination")
    assert artifacts["curate-progress"]["data"] == 100


@pytest.mark.verify_student
def test_a_cancelled_flow_run_stops_its_judging_and_goes_on_later(
    server: PrefectServer, store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--answers", "valid", "--latency", "1.5", "2.0")
    settings = {
        "store": {"path": str(store), "analyse": False},
        "run": {"grace_s": 5.0},
        "teacher": {"base_url": teacher.url, "model": "scripted", "concurrency": 1},
    }
    call = {"name": "late", "sources": ["rows"], "recipe": str(tmp_path / "judged.toml"),
            "settings": settings}  # fmt: skip
    flow = start_flow(server, tmp_path, **call)
    wait_until(lambda: teacher.requests() or flow.poll() is not None, "the first judgement")
    assert flow.poll() is None, (tmp_path / "flow.log").read_text()
    (flow_run,) = (run for run in server.post("flow_runs/filter", {})
                   if run["parameters"].get("name") == "late")  # fmt: skip
    server.post(f"flow_runs/{flow_run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    flow.communicate(timeout=600)
    ended = next(run for run in server.post("flow_runs/filter", {}) if run["id"] == flow_run["id"])
    assert ended["state_type"] == "CANCELLED", (tmp_path / "flow.log").read_text()
    asked = len(teacher.requests())
    assert 0 < asked < 12
    again = start_flow(server, tmp_path, **call)
    again.communicate(timeout=600)
    assert again.returncode == 0, (tmp_path / "flow.log").read_text()
    assert any(run.startswith("late@") for run in list_run_ids(runs_directory(store)))
    assert len(teacher.requests()) == 12
