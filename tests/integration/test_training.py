"""`evoloom train` on the bundled model cut to two layers: real training, real kills, real store."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch
from safetensors.torch import load_file

from flows.cli import main
from pipeline.student.encoding import encode_examples
from pipeline.student.loop import held_out_loss
from pipeline.student.records import read_examples
from pipeline.student.trained import load_student, read_training
from store.run_directory import read_state, runs_directory
from tests.support import cli
from tests.support.cli import InProcess
from tests.support.prefect_server import PrefectServer
from tests.support.runs import command
from tests.support.students import cut_model, nursery

RUN = "tuned"
QUICK = {
    "training.max_length": 64,
    "training.batch_size": 2,
    "training.held_out": 0.2,
    "training.save_every": 4,
    "training.evaluate_every": 6,
    "training.max_steps": 12,
    "training.learning_rate": 2e-3,
    "store.analyse": "false",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut_model(tmp_path_factory.mktemp("base") / "cut")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the dataset version `animals` of 40 instances."""
    folder = tmp_path_factory.mktemp("data")
    lines = [
        json.dumps({"instruction": row.instruction, "input": row.input, "output": row.output})
        for row in nursery(40)
    ]
    (folder / "animals.jsonl").write_text("\n".join(lines) + "\n")
    store = folder / "evoloom.duckdb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVOLOOM_STORE__ANALYSE", "false")
        run_here("import", str(folder / "animals.jsonl"), "--name", "zoo", "--store", str(store))
        run_here("datasets", "create", "animals", "zoo", "--store", str(store))
    return store


def run_here(*given: str) -> None:
    """Run the command line in this process; it must succeed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["evoloom", *given])
        code: Any = 0
        try:
            main()
        except SystemExit as exc:
            code = exc.code
    assert not code


@pytest.fixture
def store(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared.parent, tmp_path / "store")
    return tmp_path / "store" / prepared.name


@pytest.fixture
def evoloom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> InProcess:
    cli.clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


def arguments(store: Path, base: Path, *more: str, run_id: str = RUN, **sets: Any) -> list[str]:
    values = {**QUICK, **{key.replace("__", "."): value for key, value in sets.items()}}
    flags = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["train", "animals", "--store", str(store), "--base", str(base), "--run-id", run_id,
            "--seed", "7", *more, *flags]  # fmt: skip


def run_dir(store: Path, run_id: str = RUN) -> Path:
    return runs_directory(store) / run_id


def metrics(store: Path, run_id: str = RUN) -> list[dict[str, Any]]:
    path = run_dir(store, run_id) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def losses(store: Path, run_id: str = RUN) -> list[tuple[int, str, float]]:
    """Step, what was measured, its value; in the order of the file."""
    return [
        (line["step"], name, line[name])
        for line in metrics(store, run_id)
        for name in ("loss", "held_out_loss")
        if name in line
    ]


@pytest.fixture(scope="module")
def uninterrupted(prepared: Path, base: Path) -> Path:
    """The training that the others are compared with."""
    folder = prepared.parent.parent / "uninterrupted"
    shutil.copytree(prepared.parent, folder)
    store = folder / prepared.name
    run_here(*arguments(store, base, "--quiet"))
    return store


def test_a_training_lowers_the_held_out_loss_and_says_so_everywhere(uninterrupted: Path) -> None:
    store = uninterrupted
    result = json.loads((run_dir(store) / "result.json").read_text())
    assert result["held_out_loss"] < result["base_held_out_loss"] - 0.5
    assert result["steps"] == 12
    assert read_state(run_dir(store)).state == "completed"
    assert not (run_dir(store) / "checkpoints").exists()
    assert [line["step"] for line in metrics(store) if "loss" in line] == list(range(1, 13))
    assert [line["step"] for line in metrics(store) if "held_out_loss" in line] == [6, 12]
    assert (run_dir(store) / "adapter" / "adapter_model.safetensors").exists()
    last = json.loads((run_dir(store) / "progress.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["steps"], last["share_done"]) == (12, 12, 1.0)
    assert last["state"] == "completed"
    assert last["tokens_per_s"] > 0
    with duckdb.connect(store, read_only=True) as connection:
        row = connection.execute(
            "SELECT method, base, base_held_out_loss, held_out_loss, steps, trainable_parameters, "
            "peak_memory_bytes > 0, estimated_memory_bytes > 0, dataset FROM trainings"
        ).fetchone()
        counted = connection.execute("SELECT count(*), count(loss) FROM training_curves").fetchone()
    assert row is not None
    assert row[:3] == ("lora", "cut", result["base_held_out_loss"])
    assert row[3:6] == (result["held_out_loss"], 12, result["trainable_parameters"])
    assert row[6:8] == (True, True)
    assert row[8].startswith("animals@")
    assert counted == (12, 12)
    events = list((run_dir(store) / "tensorboard").glob("events.*"))
    assert len(events) == 1
    assert events[0].stat().st_size > 500


def test_held_out_examples_share_no_lineage_with_what_was_trained_on(uninterrupted: Path) -> None:
    sides = []
    for name in ("train.jsonl", "held_out.jsonl"):
        lines = (run_dir(uninterrupted) / name).read_text().splitlines()
        sides.append({json.loads(line)["root"] for line in lines})
    assert len(sides[1]) == 8
    assert not sides[0] & sides[1]


def test_killed_and_resumed_it_comes_to_the_same_student(
    uninterrupted: Path, store: Path, base: Path, evoloom: InProcess
) -> None:
    # Between the checkpoints of steps 4 and 8, and after a measurement that is made again.
    killed = signalled("SIGKILL", 7, arguments(store, base, "--quiet"), store.parent)
    assert killed.returncode == -signal.SIGKILL
    assert metrics(store)[-1]["step"] == 7
    assert not (run_dir(store) / "result.json").exists()
    done = evoloom("resume", RUN, "--store", str(store), "--json", "--quiet")
    assert done.code == 0, done.err
    assert json.loads(done.out)["result"]["resumed_at_step"] == 4
    assert_same_training(uninterrupted, store)
    # Once more: there is nothing left to do, and nothing is done.
    before = (run_dir(store) / "metrics.jsonl").read_bytes()
    assert evoloom(*arguments(store, base)).code == 0
    assert (run_dir(store) / "metrics.jsonl").read_bytes() == before


def signalled(
    name: str, step: int | str, given: list[str], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(name, str(step), module="tests.support.signalled_training"), *given],
        cwd=folder, env=cli.environment({"OMP_NUM_THREADS": "2"}), capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip


def assert_same_training(one: Path, other: Path, run_id: str = RUN) -> None:
    """Same losses at every step and the same weights, within float noise."""
    for mine, theirs in zip(losses(one, run_id), losses(other, run_id), strict=True):
        assert mine[:2] == theirs[:2]
        assert mine[2] == pytest.approx(theirs[2], rel=1e-4)
    weights = [
        load_file(run_dir(store, run_id) / "adapter" / "adapter_model.safetensors")
        for store in (one, other)
    ]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-3, atol=1e-5)


@pytest.mark.verify_student
def test_sigterm_ends_it_after_the_step_with_a_checkpoint(
    uninterrupted: Path, store: Path, base: Path, evoloom: InProcess
) -> None:
    early = signalled("SIGTERM", "base", arguments(store, base, "--quiet"), store.parent)
    assert early.returncode == 75
    assert not (run_dir(store) / "base.json").exists()
    stopped = signalled("SIGTERM", 2, arguments(store, base, "--quiet"), store.parent)
    assert stopped.returncode == 75
    assert f"evoloom resume {RUN}" in stopped.stderr
    state = read_state(run_dir(store))
    assert (state.state, state.reason) == ("interrupted", "SIGTERM")
    # Told while it noted step 2, it ended after the next.
    assert [path.name for path in (run_dir(store) / "checkpoints").iterdir()] == ["step-3"]
    with duckdb.connect(store, read_only=True) as connection:
        assert connection.execute("SELECT state FROM runs WHERE kind = 'training'").fetchall() == [
            ("interrupted",)
        ]
    refused = evoloom("resume", RUN, "--store", str(store), "--set", "training.batch_size=4")
    assert refused.code == 2
    assert "training.batch_size" in refused.err
    assert evoloom("resume", RUN, "--store", str(store), "--quiet").code == 0
    assert_same_training(uninterrupted, store)


def test_it_trains_from_an_exported_file_where_there_is_no_store(
    uninterrupted: Path, store: Path, base: Path, evoloom: InProcess, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    handed = elsewhere / "animals.jsonl"
    assert evoloom("export", "animals", "--format", "student", "--out", str(handed),
                   "--store", str(store)).code == 0  # fmt: skip
    far = elsewhere / "far.duckdb"
    command_line = arguments(far, base, "--quiet")
    command_line[1] = str(handed)
    done = evoloom(*command_line)
    assert done.code == 0, done.err
    # The same examples are held out and the same student comes out.
    for name in ("train.jsonl", "held_out.jsonl"):
        assert (run_dir(far) / name).read_bytes() == (run_dir(uninterrupted) / name).read_bytes()
    assert_same_training(uninterrupted, far)


# A learning rate that ruins the student after its first steps.
RUINOUS: dict[str, Any] = {
    "training__early_stopping": 1, "training__max_steps": 24, "training__evaluate_every": 2,
    "training__save_every": 2, "training__learning_rate": 0.5, "training__warmup": 0.9,
    "training__max_grad_norm": 0, "methods__lora__dropout": 0,
}  # fmt: skip


@pytest.mark.verify_student
def test_killed_after_it_had_stopped_early_it_ends_there(
    store: Path, base: Path, evoloom: InProcess, tmp_path: Path
) -> None:
    shutil.copytree(store.parent, tmp_path / "other")
    other = tmp_path / "other" / store.name
    done = evoloom(*arguments(store, base, "--quiet", "--json", **RUINOUS))
    assert done.code == 0, done.err
    killed = signalled("SIGKILL", "end", arguments(other, base, "--quiet", **RUINOUS), tmp_path)
    assert killed.returncode == -signal.SIGKILL
    resumed = evoloom("resume", RUN, "--store", str(other), "--json", "--quiet")
    assert resumed.code == 0, resumed.err
    results = [json.loads(each.out)["result"] for each in (done, resumed)]
    for name in ("steps", "stopped_early"):
        assert results[0][name] == results[1][name]
    assert results[1]["held_out_loss"] == pytest.approx(results[0]["held_out_loss"], rel=1e-4)
    assert_same_training(store, other)


def test_a_preset_says_what_is_held_out_too(
    store: Path, base: Path, evoloom: InProcess, tmp_path: Path
) -> None:
    recipe = tmp_path / "half.toml"
    recipe.write_text(
        '[training]\nheld_out = 0.5\nepochs = 1\n\n[[steps]]\nstep = "exact_duplicates"\n'
    )
    made = evoloom(
        "curate", "zoo", "--recipe", str(recipe), "--name", "half", "--store", str(store)
    )
    assert made.code == 0, made.err
    done = evoloom(
        "train", "half", "--preset", "--store", str(store), "--base", str(base), "--run-id", RUN,
        "--quiet", "--set", "training.max_steps=1", "--set", "training.max_length=64",
    )  # fmt: skip
    assert done.code == 0, done.err
    sides = [(run_dir(store) / name).read_text().splitlines()
             for name in ("train.jsonl", "held_out.jsonl")]  # fmt: skip
    assert len(sides[0]) == len(sides[1]) == 20
    manifest = json.loads((run_dir(store) / "manifest.json").read_text())
    assert manifest["config"]["training"]["held_out"] == 0.5


def test_early_stopping_keeps_the_best_student(store: Path, base: Path, evoloom: InProcess) -> None:
    done = evoloom(*arguments(store, base, "--quiet", "--json", **RUINOUS))
    assert done.code == 0, done.err
    result = json.loads(done.out)["result"]
    measured = [line["held_out_loss"] for line in metrics(store) if "held_out_loss" in line]
    assert result["stopped_early"]
    assert result["steps"] < 24
    assert measured[-1] > min(measured) == result["held_out_loss"]
    record = read_training(run_dir(store))
    student, tokenizer = load_student(record)
    rows = encode_examples(
        tokenizer, record.template, read_examples(record.held_out_path), 64, "truncate"
    ).rows
    autocast = record.dtype == "bfloat16"
    loss = held_out_loss(student, rows, 2, tokenizer.pad_token_id, autocast=autocast)
    assert loss == pytest.approx(min(measured), rel=1e-4)


BAD: dict[str, tuple[list[str], str]] = {
    "no dataset": (["train", "nothing"], "no run 'nothing'"),
    "no file": (["train", "nothing.jsonl"], "no such file"),
    "no base": (["--base", "/nowhere/model"], "there is no model"),
    "rank": (["--set", "methods.lora.rank=1000"], "methods.lora.rank"),
    "targets": (["--set", 'methods.lora.target_modules=["query"]'], "target_modules"),
    "method": (["--method", "lorra"], "no fine-tuning method 'lorra'"),
    "packing": (["--set", "training.packing=true"], "attention has no kernel"),
    "too short": (
        ["--method", "gradual_unfreezing", "--set", "methods.gradual_unfreezing.full_after=0.01",
         "--set", "methods.gradual_unfreezing.stages=2"],
        "training steps are too few for 2 stages",
    ),
    "too long": (
        ["--set", "training.max_length=8", "--set", "training.too_long=drop"], "are longer than"),
    "memory": (
        ["--set", "training.batch_size=32", "--set", "training.memory_limit_gib=0.45"],
        "What would fit, each by itself:\n  training.batch_size=",
    ),
    "preset": (["--preset"], "recommends no training settings"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_before_anything_is_started(
    name: str, store: Path, base: Path, evoloom: InProcess
) -> None:
    extra, message = BAD[name]
    given = arguments(store, base)
    if extra[0] == "train":
        given[1], extra = extra[1], []
    done = evoloom(*given, *extra)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not run_dir(store).exists()


def test_an_empty_dataset_is_refused(base: Path, evoloom: InProcess, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("")
    given = arguments(tmp_path / "evoloom.duckdb", base)
    given[1] = str(tmp_path / "none.jsonl")
    done = evoloom(*given)
    assert done.code == 2
    assert "is empty" in done.err


@pytest.mark.verify_student
def test_the_flow_leaves_its_result_and_its_place_as_artifacts(
    server: PrefectServer, store: Path, base: Path
) -> None:
    settings: dict[str, dict[str, Any]] = {"store": {"path": str(store)}}
    for key, value in {**QUICK, "training.base": str(base)}.items():
        section, _, name = key.partition(".")
        settings.setdefault(section, {})[name] = value
    parameters = {"dataset": "animals", "settings": settings, "run_id": "by-flow"}
    flow_run = server.execute("flows.prefect_student:train_student", parameters)
    assert read_state(runs_directory(store) / "by-flow").state == "completed"
    assert flow_run["name"] == "train-student on animals"
    assert {"evoloom", "train-student", "run:by-flow", "dataset:animals"} <= set(flow_run["tags"])
    artifacts = {item["key"]: item for item in server.of_flow_run("artifacts", flow_run)}
    assert "train-student-progress" in artifacts
    told = artifacts["train-student-result"]["data"]
    training = read_training(runs_directory(store) / "by-flow")
    assert training.result is not None
    assert f"{training.result['held_out_loss']:.4f}" in told
    assert f"{runs_directory(store) / 'by-flow'}/adapter" in told
