"""lm-evaluation-harness: what it is asked with, and how its samples become items."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from pipeline.errors import EvoloomError
from pipeline.student.evaluation.benchmarks import (
    BenchmarkPlan,
    Endpoint,
    harness_command,
    is_done,
    pair_samples,
    read_lower_is_better,
    read_samples,
    run_harness,
)
from pipeline.student.evaluation.records import EvaluationFile

ENDPOINT = Endpoint("http://127.0.0.1:1/v1", "lora-1", Path("/models/base"), 2048, 1)


def parsed(plan: BenchmarkPlan, out: Path) -> argparse.Namespace:
    """What the harness's own parser makes of the command."""
    from lm_eval._cli.run import Run

    parser = argparse.ArgumentParser()
    Run(parser.add_subparsers())
    command = harness_command(plan, ENDPOINT, out)
    assert command[2:4] == ["-m", "lm_eval"]
    return parser.parse_args(command[4:])


def test_the_harness_understands_the_command(tmp_path: Path) -> None:
    plan = BenchmarkPlan(("mmlu", "gsm8k"), tmp_path, 5, runs_code=True)
    found = parsed(plan, tmp_path / "out")
    assert (found.model, found.limit, found.log_samples) == ("local-completions", 5, True)
    assert found.confirm_run_unsafe_code
    assert found.include_path == str(tmp_path)
    assert found.model_args["base_url"] == "http://127.0.0.1:1/v1/completions"
    assert (found.model_args["model"], found.model_args["num_concurrent"]) == ("lora-1", 1)
    assert ",".join(found.tasks) == "mmlu,gsm8k"


def test_code_is_not_run_unless_that_was_said(tmp_path: Path) -> None:
    command = harness_command(BenchmarkPlan(("humaneval",), None, None, False), ENDPOINT, tmp_path)
    assert not {"--confirm_run_unsafe_code", "--limit", "--include_path"} & set(command)


def write_samples(folder: Path, accuracies: list[float], *, more: str = "none") -> Path:
    lines = [
        {"doc_id": number, "doc": {}, "target": "0", "metrics": ["acc"], "acc": accuracy,
         "filter": more, "filtered_resps": [["-0.3", "False"]],
         "arguments": {"gen_args_0": {"arg_0": f"Question {number}", "arg_1": " yes"}}}
        for number, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    place = folder / "model"
    place.mkdir(parents=True)
    path = place / "samples_quiz_hard_2026-11-26T23-49-12.530450.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def test_samples_become_items_that_both_students_were_asked(tmp_path: Path) -> None:
    samples = {
        "base": read_samples(write_samples(tmp_path / "base", [0.0, 1.0, 0.0])),
        "tuned": read_samples(write_samples(tmp_path / "tuned", [1.0, 1.0])),
    }
    file = EvaluationFile(4, "benchmark", "quiz_hard", "", 0)
    items, scores, answers = pair_samples(file, samples)  # type: ignore[arg-type]
    assert [(item.name, item.task, item.instruction) for item in items] == [
        ("quiz_hard/0", "quiz_hard", "Question 0"), ("quiz_hard/1", "quiz_hard", "Question 1")
    ]  # fmt: skip
    assert [(score.number, score.student, score.metric, score.value) for score in scores] == [
        (0, "base", "acc", 0.0), (0, "tuned", "acc", 1.0),
        (1, "base", "acc", 1.0), (1, "tuned", "acc", 1.0),
    ]  # fmt: skip
    assert answers["base", (4, 0)] == '[["-0.3", "False"]]'


def test_a_filter_is_part_of_the_metrics_name(tmp_path: Path) -> None:
    (sample,) = read_samples(write_samples(tmp_path, [1.0], more="strict-match"))
    assert dict(sample.metrics) == {"acc,strict-match": 1.0}


def test_a_documents_perplexity_is_named_a_log_likelihood(tmp_path: Path) -> None:
    folder = write_samples(tmp_path, [1.0])
    (path,) = folder.rglob("samples_*.jsonl")
    row = json.loads(path.read_text())
    path.write_text(
        json.dumps({**row, "metrics": ["perplexity", "acc"], "perplexity": -3.5}) + "\n"
    )
    (sample,) = read_samples(folder)
    assert dict(sample.metrics) == {"log-likelihood": -3.5, "acc": 1.0}


def test_the_harness_says_of_which_metrics_less_is_better(tmp_path: Path) -> None:
    folder = write_samples(tmp_path, [1.0])
    assert read_lower_is_better(folder) == frozenset()
    directions = {"quiz_hard": {"acc": True, "wer": False, "perplexity": False, "odd": None}}
    results = folder / "model" / "results_2026-11-26T23-49-12.530450.json"
    results.write_text(json.dumps({"results": {}, "higher_is_better": directions}))
    assert read_lower_is_better(folder) == {("quiz_hard", "wer")}
    results.write_text('{"higher_is_better": {"quiz_hard": 3}}')
    with pytest.raises(EvoloomError, match=r"results_.*\.json: is not of the form"):
        read_lower_is_better(folder)


def test_samples_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvoloomError, match="left no samples"):
        read_samples(tmp_path)
    folder = write_samples(tmp_path, [1.0])
    (path,) = folder.rglob("samples_*.jsonl")
    path.write_text('{"document": 1}\n')
    with pytest.raises(EvoloomError, match="not of the form"):
        read_samples(folder)


def test_a_failed_harness_says_what_its_log_ends_with(tmp_path: Path) -> None:
    plan = BenchmarkPlan(("no_such_task",), tmp_path, None, False)
    with pytest.raises(EvoloomError, match=r"failed on no_such_task: .*no_such_task"):
        run_harness(plan, ENDPOINT, tmp_path / "out")
    assert not is_done(tmp_path / "out")
