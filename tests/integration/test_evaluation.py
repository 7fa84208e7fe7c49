"""Evaluations from the command line: a small student through Transformers, judged over HTTP."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.retention import prune
from store.evaluations import ANSWERS, KIND
from store.journal import read_entries
from store.run_directory import read_state, runs_directory
from store.snapshot import open_snapshot
from tests.support import cli
from tests.support.cli import InProcess
from tests.support.prefect_server import PrefectServer
from tests.support.runs import command
from tests.support.students import cut_model, nursery, train_student
from tests.support.teachers import TeacherFactory, TeacherProcess

TRAINING = "lora-1"
USERS = [
    {"id": f"user-{number}", "domain": "animals", "input": "", "output": f"It is number {number}.",
     "instruction": f"Which number has the animal called {name} at the fair in our town?"}
    for number, name in enumerate(("Bella", "Rocky", "Luna"))
]  # fmt: skip
TASKS = [
    {"task": "task1", "category": "Word Analogy", "definition": "Name a number.", "input": str(n),
     "output": [f"The cat is number {n}, and that is all."]}
    for n in range(2)
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a training of the bundled model's first two layers."""
    folder = tmp_path_factory.mktemp("trained")
    store = folder / "evoloom.duckdb"
    base = cut_model(folder / "base")
    held_out = nursery(3, start=50)
    train_student(store, TRAINING, base, nursery(8), held_out)
    for name, rows in (("users", USERS), ("tasks", TASKS)):
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text)
    return store


@pytest.fixture
def store(trained: Path, tmp_path: Path) -> Path:
    """The same store, of the test's own; the base model stays where it is."""
    folder = tmp_path / "store"
    shutil.copytree(trained.parent, folder, ignore=shutil.ignore_patterns("base"))
    return folder / trained.name


@pytest.fixture
def evoloom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> InProcess:
    cli.clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


@pytest.fixture
def judge(scripted_teacher: TeacherFactory, tmp_path: Path) -> TeacherProcess:
    """Prefers what it is shown first, but for Rocky, of whom it says nothing that can be read."""
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps([["Rocky", "Hard to say.", "stop"], ["Your Verdict", "A", "stop"]]))
    return scripted_teacher("--rules", str(rules))


def arguments(store: Path, *more: str, run_id: str = "eval-1", **sets: Any) -> list[str]:
    values = {
        "evaluation.serving": "transformers",
        "evaluation.user_oriented_file": str(store.parent / "users.jsonl"),
        "evaluation.held_out_max_tokens": 16,
        "evaluation.tasks_max_tokens": 8,
        "evaluation.user_oriented_max_tokens": 8,
        "run.progress_interval_s": 0.05,
        **{key.replace("__", "."): value for key, value in sets.items()},
    }
    flags = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["evaluate", TRAINING, "--store", str(store), "--run-id", run_id,
            "--tasks", str(store.parent / "tasks.jsonl"), *flags, *more]  # fmt: skip


def answers_of(store: Path, run_id: str) -> dict[str, Any]:
    entries = read_entries(runs_directory(store) / run_id / ANSWERS)
    return {str(entry.address): entry for entry in entries}


def test_an_evaluation_and_the_same_again(
    evoloom: InProcess, store: Path, judge: TeacherProcess
) -> None:
    done = evoloom(*arguments(store, "--json", teacher__base_url=judge.url))
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert (shown["serving"], shown["asked"]) == ("transformers", {"0": 3, "1": 2, "2": 3})

    with open_snapshot(store) as connection:
        summary = {
            (part, metric): (difference, tuned_is)
            for part, metric, difference, tuned_is in connection.execute(
                "SELECT part, metric, difference, tuned_is FROM evaluation_summary"
            ).fetchall()
        }
        compared = connection.execute(
            "SELECT item_name, base, tuned, difference, base_answer, tuned_answer "
            "FROM evaluation_comparison WHERE metric = 'rouge_l' AND part = 'held_out'"
        ).fetchall()
        verdicts = connection.execute(
            "SELECT name, verdict FROM evaluation_items WHERE part = 'user_oriented' ORDER BY item"
        ).fetchall()
        judged = connection.execute(
            "SELECT position, attempt, state, reason FROM completions WHERE run_id = 'eval-1' "
            "ORDER BY position, attempt"
        ).fetchall()
        (run,) = connection.execute("SELECT state FROM runs WHERE run_id = 'eval-1'").fetchall()
    # It was taught how such answers look, so that its loss on others of the kind is lower.
    assert summary["held_out", "nll"][0] < -1.0
    assert summary["held_out", "nll"][1] == "better"
    assert len(compared) == 3
    assert all(difference == tuned - base for _, base, tuned, difference, *_ in compared)
    assert all(base != tuned for *_, base, tuned in compared)
    # The judge took whichever came first; what it said of Rocky was asked for again, in vain.
    assert verdicts == [("user-0", "inconsistent"), ("user-1", "unreadable"),
                        ("user-2", "inconsistent")]  # fmt: skip
    assert judged == [
        ([2, 0, 0], 0, "used", None), ([2, 0, 1], 0, "used", None),
        ([2, 1, 0], 0, "discarded", "unreadable"), ([2, 1, 0], 1, "discarded", "unreadable"),
        ([2, 1, 1], 0, "discarded", "unreadable"), ([2, 1, 1], 1, "discarded", "unreadable"),
        ([2, 2, 0], 0, "used", None), ([2, 2, 1], 0, "used", None),
    ]  # fmt: skip
    assert run == ("completed",)
    page = Path(shown["report"]).read_text()
    assert "through Transformers" in page
    assert USERS[0]["instruction"] in page

    _again_takes_the_recorded_answers(evoloom, store, judge, shown)


def _again_takes_the_recorded_answers(
    evoloom: InProcess, store: Path, judge: TeacherProcess, first: dict[str, Any]
) -> None:
    requests = len(judge.requests())
    done = evoloom(*arguments(store, "--json", run_id="eval-2", teacher__base_url=judge.url))
    assert done.code == 0, done.err
    assert len(judge.requests()) == requests
    second = json.loads(done.out)
    assert second["comparisons"] == first["comparisons"]
    assert all(one["recorded_from"] == ["eval-1"] for one in second["scorings"])
    assert [one["key"] for one in second["scorings"]] == [one["key"] for one in first["scorings"]]
    before, after = answers_of(store, "eval-1"), answers_of(store, "eval-2")
    assert before.keys() == after.keys()
    # They were copied, not made again: with the very time at which they were made.
    assert all(before[key].answered_at == after[key].answered_at for key in before)
    with open_snapshot(store) as connection:
        logged = connection.execute(
            "SELECT run_id, count(*) FROM evaluation_scorings GROUP BY run_id ORDER BY run_id"
        ).fetchall()
    assert logged == [("eval-1", 7), ("eval-2", 7)]
    # A longer answer is another configuration: what it changes is asked, the rest is not.
    third = arguments(
        store, "--no-judge", "--json", run_id="eval-3", evaluation__tasks_max_tokens=9
    )
    done = evoloom(*third)
    assert done.code == 0, done.err
    sources = {one["file"]: one["recorded_from"] for one in json.loads(done.out)["scorings"]}
    assert sources == {0: ["eval-1"], 1: [], 2: ["eval-1"]}
    assert evoloom("store", "check", "--store", str(store)).code == 0
    shown = evoloom("runs", "show", "eval-1", "--store", str(store))
    assert shown.code == 0
    assert f"training {TRAINING} against its base" in shown.out
    # Without its journals it is what it was, and nobody is asked again.
    assert [run.run_id for run in prune(store, timedelta(0), ["eval-1"]).pruned] == ["eval-1"]
    requests = len(judge.requests())
    done = evoloom(*arguments(store, "--json", teacher__base_url=judge.url))
    assert done.code == 0, done.err
    assert json.loads(done.out)["comparisons"] == first["comparisons"]
    assert len(judge.requests()) == requests
    assert evoloom("store", "check", "--store", str(store)).code == 0


def test_killed_and_started_again_nothing_is_asked_twice(store: Path) -> None:
    line = command(*arguments(store, "--no-judge", "--quiet", "--json"))
    env = cli.environment({"OMP_NUM_THREADS": "2"})
    process = subprocess.Popen(line, env=env, cwd=cli.ROOT, stdout=subprocess.DEVNULL)
    answers = runs_directory(store) / "eval-1" / ANSWERS
    _wait_for(lambda: answers.exists() and len(answers_of(store, "eval-1")) >= 3)
    process.kill()
    process.wait()
    before = answers_of(store, "eval-1")
    assert 3 <= len(before) < 22
    assert read_state(answers.parent).state == "running"

    done = subprocess.run(line, env=env, cwd=cli.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = answers_of(store, "eval-1")
    assert len(after) == 22  # 8 answers and 3 losses of each student
    assert all(after[key] == entry for key, entry in before.items())
    assert read_state(answers.parent).state == "completed"


@pytest.mark.verify_student
def test_sigterm_leaves_it_resumable(store: Path) -> None:
    line = command(*arguments(store, "--no-judge", "--quiet"))
    env = cli.environment({"OMP_NUM_THREADS": "2"})
    process = subprocess.Popen(
        line, env=env, cwd=cli.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    run_dir = runs_directory(store) / "eval-1"
    _wait_for(lambda: (run_dir / ANSWERS).exists() and len(answers_of(store, "eval-1")) >= 1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 75
    assert f"evoloom evaluate {TRAINING} --run-id eval-1` goes on" in said
    state = read_state(run_dir)
    assert (state.state, state.reason) == ("interrupted", "SIGTERM")

    resumed = command("resume", "eval-1", "--store", store, "--quiet", "--json")
    done = subprocess.run(
        resumed, env=env, cwd=cli.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "completed"


def _wait_for(condition: Any) -> None:
    until = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_another_adapter_is_not_gone_on_with(evoloom: InProcess, store: Path) -> None:
    done = evoloom(*arguments(store, "--no-judge", "--quiet"))
    assert done.code == 0, done.err
    run_dir = runs_directory(store) / "eval-1"
    (run_dir / "state.json").unlink()
    config = runs_directory(store) / TRAINING / "adapter" / "adapter_config.json"
    config.write_text(config.read_text() + "\n")
    done = evoloom(*arguments(store, "--no-judge", "--quiet"))
    assert done.code == 2
    assert "the adapter in" in done.err
    assert "is not the one that it was begun with" in done.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tasks", "absent.jsonl"], "absent.jsonl: cannot be read"),
        (["--tasks", "bad.jsonl"], "bad.jsonl line 2: 'output'"),
        (["--set", "evaluation.user_oriented_file=bad.jsonl"], "bad.jsonl line 1: 'instruction'"),
        (["--benchmarks", "mmlu"], "evaluated through Transformers"),
        (["--benchmarks", "a;rm -rf"], "setting 'evaluation.benchmarks.0'"),
        (["--limit", "0"], "setting 'evaluation.limit'"),
        (["--set", "evaluation.serving=nowhere"], "setting 'evaluation.serving'"),
        (["--run-id", TRAINING], f"run {TRAINING} is of kind 'training', no evaluation"),
        (["--run-id", "a/b"], "run id 'a/b'"),
    ],
)  # fmt: skip
def test_bad_input_is_said_and_starts_nothing(
    evoloom: InProcess, store: Path, more: list[str], said: str
) -> None:
    Path("bad.jsonl").write_text('{"definition": "Do.", "output": "x"}\n{"definition": "Do."}\n')
    before = sorted(runs_directory(store).iterdir())
    done = evoloom(*arguments(store, "--no-judge", *more))
    assert (done.code, said in done.err) == (2, True), done.err
    assert sorted(runs_directory(store).iterdir()) == before


def test_what_cannot_be_evaluated(evoloom: InProcess, store: Path) -> None:
    place = ("--store", str(store))
    done = evoloom("evaluate", "absent", "--no-judge", *place)
    assert (done.code, "no run 'absent'" in done.err) == (2, True)
    run_dir = runs_directory(store) / TRAINING
    state = json.loads((run_dir / "state.json").read_text())
    (run_dir / "state.json").write_text(json.dumps({**state, "state": "interrupted"}))
    done = evoloom("evaluate", TRAINING, "--no-judge", *place)
    assert (done.code, "only a finished one has a student" in done.err) == (2, True)
    (run_dir / "state.json").write_text(json.dumps(state))
    nothing = ["--set", "evaluation.held_out=false", "--set", "evaluation.user_oriented=false"]
    done = evoloom("evaluate", TRAINING, *nothing, *place)
    assert (done.code, "nothing to evaluate" in done.err) == (2, True)
    assert KIND not in {path.name.split("-")[0] for path in runs_directory(store).iterdir()}


@pytest.mark.verify_student
def test_the_flow_leaves_the_table_as_an_artifact(
    server: PrefectServer, store: Path, tmp_path: Path
) -> None:
    settings = {
        "store": {"path": str(store)},
        "evaluation": {"serving": "transformers", "judge": False, "user_oriented": False,
                       "limit": 2, "held_out_max_tokens": 8},
    }  # fmt: skip
    parameters = {"training": TRAINING, "settings": settings, "run_id": "eval-flow"}
    flow_run = server.execute("flows.prefect_evaluation:evaluate_student", parameters)
    artifacts = {item["key"]: item for item in server.of_flow_run("artifacts", flow_run)}
    text = artifacts["evaluate-student-report"]["data"]
    assert f"# Evaluation of {TRAINING}" in text
    assert "| loss, nats a token | 2 |" in text
    assert "report.html" in artifacts["evaluate-student-page"]["data"]
    assert {f"training:{TRAINING}", "run:eval-flow"} <= set(flow_run["tags"])
    assert "answered 4/4" in artifacts["evaluate-student-progress"]["description"]
