"""`evoloom run nightly` without Prefect: the chain, stopped and gone on with."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from store.run_directory import list_run_ids, read_state, runs_directory
from tests.support import cli
from tests.support.children import Child, start_child
from tests.support.prefect_server import PATIENCE_S, wait_until
from tests.support.runs import journal_of
from tests.support.students import cut_model
from tests.support.teachers import TeacherFactory

PROFILE = """
steps = ["self-instruct", "evol-instruct", "curate", "train"]

[settings.run]
seed = 5
progress_interval_s = 0.1
[settings.store]
analyse = false
[self_instruct.settings.run]
target = 6
[evol_instruct.settings.evol_instruct]
rounds = 1
[curate]
dataset = "nightly"
recipe = "mine.toml"
[train.settings.training]
base = "{base}"
max_steps = 2
batch_size = 1
max_length = 128
too_long = "truncate"
held_out = 0.2
"""

LOW = """
steps = ["self-instruct", "curate"]
[settings.run]
target = 30
seed = 3
ceiling = 1
window = 2
[settings.store]
analyse = false
[settings.novelty]
threshold = 0.4
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text('[[steps]]\nstep = "exact_duplicates"\n')
    path = tmp_path / "profile.toml"
    path.write_text(PROFILE.format(base=cut_model(tmp_path / "cut")))
    return path


def start(store: Path, profile: Path, *more: str) -> Child:
    return start_child(store.parent, "run", "nightly", "--profile", profile, "--run-id", "night",
                       "--store", store, "--json", *more)  # fmt: skip


def end_of(child: Child) -> int:
    """Its exit code, once it has ended; training is slow where the cores have other things to do."""
    wait_until(lambda: not child.is_running(), "the end")
    return child.wait()


def rows(store: Path, child: Child) -> list[dict[str, Any]]:
    value = json.loads(child.output())
    assert value["run_id"] == "night"
    steps: list[dict[str, Any]] = value["steps"]
    return steps


def test_a_nightly_that_is_stopped_goes_on_at_the_step_it_was_at(
    store: Path, profile: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher("--latency", "0.05", "0.1")
    address = ("--set", f"teacher.base_url={teacher.url}", "--set", "teacher.concurrency=2")
    child = start(store, profile, *address)
    evolution = runs_directory(store) / "night-evol-instruct"
    wait_until(evolution.exists, "the second step")
    asked = len(teacher.requests())
    wait_until(lambda: len(teacher.requests()) > asked, "its first answer")
    child.signal(signal.SIGTERM)
    assert end_of(child) == 75, child.errors()
    assert (
        "stopped at its step evol-instruct (run night-evol-instruct), which was" in child.errors()
    )
    assert f"`evoloom run nightly --run-id night --store {store}`" in child.errors()
    assert read_state(evolution).state == "interrupted"
    assert [row["state"] for row in rows(store, child)] == ["completed", "interrupted"]

    other = start(store, profile, *address, "--set", "run.seed=6")
    assert end_of(other) == 2
    assert "settings: run.seed is 6, but was 5 when nightly night was begun" in other.errors()

    profile.unlink()
    again = start_child(store.parent, "run", "nightly", "--run-id", "night", "--store", store,
                        "--json")  # fmt: skip
    assert end_of(again) == 0, again.errors()
    done = rows(store, again)
    assert [(row["step"], row["state"]) for row in done] == [
        ("self-instruct", "completed"), ("evol-instruct", "completed"), ("curate", "completed"),
        ("train", "completed"),
    ]  # fmt: skip
    assert done[2]["made"] in list_run_ids(runs_directory(store))
    training = json.loads((runs_directory(store) / "night-train/manifest.json").read_bytes())
    assert training["dataset"] == done[2]["made"]
    evolved = json.loads((evolution / "manifest.json").read_bytes())
    assert evolved["config"]["evol_instruct"]["source"] == "night-self-instruct"
    keys = [request["key"] for request in teacher.requests()]
    journaled = sum(len(journal_of(store, f"night-{step}"))
                    for step in ("self-instruct", "evol-instruct"))  # fmt: skip
    assert len(set(keys)) == len(keys) == journaled


def test_a_ceiling_does_not_end_the_chain_and_a_failing_step_is_named(
    store: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher()
    path = tmp_path / "profile.toml"
    path.write_text(LOW)
    arguments = ("run", "nightly", "--profile", str(path), "--store", str(store),
                 "--set", f"teacher.base_url={teacher.url}")  # fmt: skip
    done = cli.command(*arguments, "--run-id", "low", cwd=tmp_path, timeout=PATIENCE_S)
    assert done.code == 0, done.err
    assert "self-instruct reached its ceiling with" in done.out
    assert read_state(runs_directory(store) / "low-self-instruct").state == "ceiling"

    done = cli.command(
        *arguments, "--run-id", "wrong", "--set", "teacher.model=other", cwd=tmp_path
    )
    assert done.code == 2
    assert "nightly wrong stopped at its step self-instruct (run wrong-self-instruct)" in done.err
    assert "Traceback" not in done.err
