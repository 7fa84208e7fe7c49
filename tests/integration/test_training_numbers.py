"""The full numbers of training (`make verify-student`): kills at any step, memory, several processes."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from store.run_directory import runs_directory
from tests.integration.test_training import assert_same_training, run_dir, signalled
from tests.support import cli
from tests.support.cli import Ended
from tests.support.students import bundled_model, cut_model, nursery

pytestmark = pytest.mark.verify_student

KILLS = 4
STEPS = 20
MEASURED: dict[str, dict[str, Any]] = {
    "lora, small batch": {"training.batch_size": 1, "training.max_length": 256},
    "lora, checkpointing": {
        "training.batch_size": 8,
        "training.max_length": 384,
        "training.gradient_checkpointing": "true",
    },
    "lora, large batch": {"training.batch_size": 4, "training.max_length": 384},
    "full": {"training.method": "full", "training.batch_size": 1, "training.max_length": 256},
}


def write_examples_file(folder: Path, words: int) -> Path:
    """A hand-over file whose responses are of some length."""
    draw = random.Random(3)
    path = folder / f"examples-{words}.jsonl"
    lines = []
    for row in nursery(40):
        more = " ".join(draw.choice(row.output.split()) for _ in range(words))
        lines.append(json.dumps({
            "instance_id": row.instance_id, "root": row.root, "instruction": row.instruction,
            "input": "", "output": f"{row.output} {more}".strip(), "is_classification": None,
            "system": None, "turns": [],
        }))  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


def arguments(data: Path, store: Path, base: Path, run_id: str, **sets: Any) -> list[str]:
    values = {
        "training.report_to": "[]",
        "training.held_out": 0.1,
        "store.analyse": "false",
        **sets,
    }
    flags = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["train", str(data), "--store", str(store), "--base", str(base), "--run-id", run_id,
            "--seed", "7", "--quiet", "--json", *flags]  # fmt: skip


def evoloom(folder: Path, *given: str) -> Ended:
    return cli.command(*given, cwd=folder, env={"OMP_NUM_THREADS": "2"}, timeout=1200)


def result(store: Path, run_id: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run_dir(store, run_id) / "result.json").read_text())
    return value


def test_killed_at_any_steps_it_comes_to_the_same_student(tmp_path: Path) -> None:
    base, data = cut_model(tmp_path / "cut"), write_examples_file(tmp_path, 0)
    sets = {
        "training.max_steps": STEPS, "training.batch_size": 2, "training.accumulation": 2,
        "training.max_length": 64, "training.save_every": 3, "training.evaluate_every": 5,
        "training.learning_rate": 2e-3,
    }  # fmt: skip
    whole, torn = tmp_path / "whole.duckdb", tmp_path / "torn.duckdb"
    done = evoloom(tmp_path, *arguments(data, whole, base, "tuned", **sets))
    assert done.code == 0, done.err
    steps = sorted(random.Random().sample(range(1, STEPS + 1), KILLS))
    for step in [*steps, "end"]:
        killed = signalled("SIGKILL", step, arguments(data, torn, base, "tuned", **sets), tmp_path)
        assert killed.returncode == -signal.SIGKILL, (steps, step, killed.stderr)
    assert evoloom(tmp_path, "resume", "tuned", "--store", str(torn), "--quiet").code == 0
    assert_same_training(whole, torn)


def test_the_estimate_is_within_30_percent_of_the_measured_peak(tmp_path: Path) -> None:
    data = write_examples_file(tmp_path, 420)
    store = tmp_path / "memory.duckdb"
    peaks, wrong = [], []
    for number, (name, sets) in enumerate(MEASURED.items()):
        run_id = f"memory-{number}"
        given = {"training.max_steps": 2, "training.evaluate_every": 10, **sets}
        done = evoloom(tmp_path, *arguments(data, store, bundled_model(), run_id, **given))
        assert done.code == 0, done.err
        manifest = json.loads((runs_directory(store) / run_id / "manifest.json").read_text())
        estimated = manifest["estimated_memory_bytes"]
        peak = result(store, run_id)["peak_memory_bytes"]
        peaks.append(peak)
        print(f"{name}: estimated {estimated / 2**20:.0f} MiB, measured {peak / 2**20:.0f} MiB")
        if not 0.7 <= estimated / peak <= 1.3:
            wrong.append(f"{name}: {estimated / peak:.2f}")
    assert not wrong
    assert max(peaks) >= 3 * min(peaks)


def test_two_processes_train_one_student_and_are_stopped_with_grace(tmp_path: Path) -> None:
    base, data = cut_model(tmp_path / "cut"), write_examples_file(tmp_path, 0)
    sets = {
        "training.max_steps": 16, "training.batch_size": 2, "training.max_length": 64,
        "training.processes": 2, "training.learning_rate": 2e-3,
        "training.evaluate_every": 4, "training.save_every": 4,
    }  # fmt: skip
    store = tmp_path / "two.duckdb"
    done = evoloom(tmp_path, *arguments(data, store, base, "two", **sets))
    log = run_dir(store, "two") / "processes.log"
    assert done.code == 0, (done.err, log.read_text() if log.exists() else "")
    found = result(store, "two")
    assert found["processes"] == 2
    assert found["held_out_loss"] < found["base_held_out_loss"] - 0.5
    # The same with both halves of each batch in one process.
    alone = {**sets, "training.processes": 1, "training.batch_size": 4, "methods.lora.dropout": 0}
    both = {**sets, "methods.lora.dropout": 0}
    for run_id, values in (("alone", alone), ("both", both)):
        ended = evoloom(tmp_path, *arguments(data, store, base, run_id, **values))
        assert ended.code == 0, ended.err
    assert result(store, "both")["held_out_loss"] == pytest.approx(
        result(store, "alone")["held_out_loss"], rel=0.1
    )
