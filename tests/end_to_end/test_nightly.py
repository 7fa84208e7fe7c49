"""A whole nightly on the bundled model: seeds, evolution, dataset, student, comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.teacher.engine import Engine
from store.run_directory import read_state, runs_directory
from tests.support import cli

pytestmark = pytest.mark.verify_operations

PROFILE = """
[settings.run]
seed = 3
[self_instruct.settings.run]
target = 12
[evol_instruct.settings.evol_instruct]
rounds = 1
limit = 6
truncated_responses = "keep"
evolution.completions.max_tokens = 80
response.completions.max_tokens = 80
[curate]
dataset = "nightly"
recipe = "plain.toml"
[train.settings.training]
max_steps = 8
batch_size = 1
max_length = 512
too_long = "truncate"
learning_rate = 2e-3
held_out = 0.3
[evaluate.settings.evaluation]
user_oriented = false
judge = false
held_out_max_tokens = 32
"""


def test_all_five_steps_hand_on_what_they_made(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "plain.toml").write_text('[[steps]]\nstep = "exact_duplicates"\n')
    (tmp_path / "nightly.toml").write_text(PROFILE)
    store = tmp_path / "evoloom.duckdb"
    done = cli.command(
        "run", "nightly", "--profile", "nightly.toml", "--run-id", "night", "--store", str(store),
        "--json", cwd=tmp_path, timeout=1400,
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = json.loads(done.out)["steps"]
    assert [row["step"] for row in rows] == [
        "self-instruct", "evol-instruct", "curate", "train", "evaluate",
    ]  # fmt: skip
    assert {row["state"] for row in rows} <= {"completed", "ceiling"}
    assert Path(rows[4]["report"]).stat().st_size > 10_000
    for step in ("train", "evaluate"):
        assert read_state(runs_directory(store) / f"night-{step}").state == "completed"
    results = json.loads((runs_directory(store) / "night-evaluate/manifest.json").read_bytes())
    assert results["training"] == "night-train"
