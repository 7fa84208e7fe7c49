"""A finished evaluation as its run directory holds it, without a model: the answers are given."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.records import Completion
from pipeline.student.evaluation.records import EvaluationFile, EvaluationItem
from pipeline.student.evaluation.scoring import Bootstrap, compare, score_answers
from store.evaluations import EVALUATED, KIND, RESULTS, SCORES
from store.new_run import NewRun


def write_evaluation(
    store: Path, run_id: str, rows: Sequence[Mapping[str, str]], dataset: str = "nightly"
) -> None:
    """Make an evaluation of rows with instruction, input, reference, base and tuned; scores and
    intervals are worked out as an evaluation does."""
    file = EvaluationFile(0, "user_oriented", "tasks.jsonl", "0" * 64, len(rows))
    items = [
        EvaluationItem(
            0, number, "user_oriented", f"task {number}", f"task {number}", row["instruction"],
            row.get("input", ""), (row["reference"],), "letters",
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip
    answers = {
        (student, item.position): Completion(row[student], "stop", None)
        for item, row in zip(items, rows, strict=True)
        for student in ("base", "tuned")
    }
    scores = list(score_answers(items, answers))
    bootstrap = Bootstrap(200, 0.95, 1)
    results: dict[str, Any] = {
        "training": "training-1", "dataset": dataset, "base": "SmolLM2-135M-Instruct",
        "method": "lora", "template": "chat", "dtype": "float32", "serving": "adapter",
        "proof": {"tokens": 64, "disagreement": 0.002, "effect": 0.4},
        "judge": None, "bootstrap": asdict(bootstrap), "files": [asdict(file)],
        "asked": {"0": len(rows)}, "contaminated": {"0": 0}, "scorings": [],
        "comparisons": [asdict(one) for one in compare([file], items, scores, {}, bootstrap)],
    }  # fmt: skip
    evaluated = [
        {**item.to_json(), "base_answer": row["base"], "tuned_answer": row["tuned"],
         "base_finish": "stop", "tuned_finish": "stop", "is_contaminated": False, "verdict": None}
        for item, row in zip(items, rows, strict=True)
    ]  # fmt: skip
    with NewRun(store, run_id) as run:
        (run.path / EVALUATED).write_text(_lines(evaluated))
        (run.path / SCORES).write_text(_lines(asdict(score) for score in scores))
        (run.path / RESULTS).write_text(json.dumps(results))
        run.finish({"kind": KIND, "base": {"hash": "b" * 64}, "adapter_hash": "a" * 64})


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)
