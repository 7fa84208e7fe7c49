"""`log.format = "json"`: every process says JSON lines, with the run and the stage they are about."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import serving, settings, wait_for
from tests.support.cli import environment
from tests.support.runs import QUICK, RUN, command, run_command
from tests.support.teachers import ROOT, TeacherFactory

JSON = {"EVOLOOM_LOG__FORMAT": "json", "EVOLOOM_STORE__ANALYSE": "false"}


def lines_of(text: str) -> list[dict[str, Any]]:
    """The lines, each of which must be an object with what every line has."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line["level"] in {"info", "warning", "error", "critical"}
        assert line["event"] and isinstance(line["message"], str)
    return lines


def run(
    *arguments: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(env),
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_run_says_its_progress_and_that_of_its_stages_as_json(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.05", "0.1")
    done = run(*run_command(store, teacher), env=JSON)
    assert done.returncode == 0, done.stderr
    assert "funnel" in done.stdout  # the result is for people as ever
    lines = lines_of(done.stderr)
    assert {(line["run_id"], line["kind"]) for line in lines} == {(RUN, "self-instruct")}
    by_event: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_event.setdefault(line["event"], []).append(line)
    last = by_event["progress"][-1]
    assert (last["state"], last["accepted"], last["target"]) == ("completed", 24, 24)
    assert [line["state"] for line in by_event["state"]][-1] == "completed"
    assert {line["stage"] for line in by_event["stage"]} == {"generate", "classify", "instances"}
    final = {line["stage"]: line for line in by_event["stage"]}
    assert sum(line["completion_tokens"] for line in final.values()) == last["completion_tokens"]
    assert [line["message"] for line in by_event["message"]] == [f"run {RUN}"]


def test_a_pause_and_an_end_without_the_teacher_are_told_apart(
    store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--fail-after", "20")
    limits = ["--set", "teacher.outage_limit_s=0.5", "--set", "log.format=json"]
    done = run(*run_command(store, teacher), *limits, env={**JSON, "EVOLOOM_LOG__FORMAT": "text"})
    assert done.returncode == 75, done.stderr
    lines = lines_of(done.stderr)
    paused = [line for line in lines if line["event"] == "state"]
    assert [line["state"] for line in paused][-2:] == ["paused", "interrupted"]
    assert {line["level"] for line in paused} == {"warning"}
    error = lines[-1]
    assert (error["event"], error["level"], error["run_id"]) == ("error", "error", RUN)
    assert f"evoloom resume {RUN}" in error["message"]
    assert not error["message"].startswith("evoloom: ")


def test_a_mistake_is_one_line_also_where_the_file_asks_for_json(tmp_path: Path) -> None:
    (tmp_path / "evoloom.toml").write_text('[log]\nformat = "json"\n')
    done = run("resume", "nobody", "--store", tmp_path / "none.duckdb", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = lines_of(done.stderr)
    assert (line["event"], line["exit_code"]) == ("error", 2)
    assert "no run 'nobody'" in line["message"]
    (tmp_path / "evoloom.toml").rename(tmp_path / "other.toml")
    done = run("resume", "nobody", "--config", "other.toml", cwd=tmp_path)
    assert lines_of(done.stderr)[0]["event"] == "error"
    done = run("resume", "nobody", cwd=tmp_path)
    assert done.stderr.startswith("evoloom: no run 'nobody'")


def test_an_unknown_format_is_refused_by_its_name(tmp_path: Path) -> None:
    done = run("resume", "x", cwd=tmp_path, env={"EVOLOOM_LOG__FORMAT": "xml"})
    assert done.returncode == 2
    assert "EVOLOOM_LOG__FORMAT" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("chosen", ["json", "text"])
def test_the_service_and_the_runs_it_starts_log_alike(
    store: Path, scripted_teacher: TeacherFactory, chosen: str
) -> None:
    teacher = scripted_teacher()
    flags = settings(teacher__base_url=teacher.url, log__format=chosen,
                     **{key.replace(".", "__"): value for key, value in QUICK.items()})  # fmt: skip
    with serving(store, *flags) as service, service.client() as client:
        body = {"method": "self-instruct", "target": 4, "run_id": "night"}
        client.post("/runs", json=body).raise_for_status()
        wait_for(client, "night", "completed")
        client.get("/runs/nobody")
    child = (store.with_name(f"{store.name}.runs") / "night.flow" / "log").read_text()
    said = service.log.read_text()
    if chosen == "text":
        assert child == ""
        assert all("event" not in json.loads(line) for line in said.splitlines())
        return
    lines = lines_of(said)
    missed = lines[-1]
    assert (missed["event"], missed["message"]) == ("request", "GET /v1/runs/nobody 404")
    assert missed["status"] == 404 and missed["request_id"] and "at" not in missed
    child_lines = lines_of(child)
    assert {line["run_id"] for line in child_lines} == {"night"}
    assert {"progress", "stage", "message"} <= {line["event"] for line in child_lines}


def test_nothing_of_the_key_is_in_it(store: Path, scripted_teacher: TeacherFactory) -> None:
    key = "sk-very-secret-0123456789"
    done = run(
        *run_command(store, scripted_teacher()), env={**JSON, "EVOLOOM_TEACHER__API_KEY": key}
    )
    assert done.returncode == 0 and key not in done.stderr
    assert "EVOLOOM_LOG__FORMAT" not in os.environ
