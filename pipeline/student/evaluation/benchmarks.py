"""The standard benchmarks of the papers, by lm-evaluation-harness against the served student.

The harness runs as a process of its own and asks the same endpoint as everything else. Its answers
are cached as they come, so that a second start asks only what is missing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import EvoloomError, UsageError
from pipeline.student.evaluation.records import (
    EvaluationFile,
    EvaluationItem,
    Score,
    Student,
)

_GRACE_S = 10.0
_DONE = "done.json"
# What the harness gives as a document's perplexity is its log-likelihood in nats (lm_eval/api/task.py,
# process_results); only its aggregate over all documents, exp(-mean), is a perplexity.
_LOG_LIKELIHOODS = {"perplexity": "log-likelihood"}


@dataclass(frozen=True, slots=True)
class BenchmarkPlan:
    """What the harness is asked to do; see `EvaluationSettings`."""

    names: tuple[str, ...]
    folder: Path | None
    limit: int | None
    runs_code: bool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A served student as the harness reaches it."""

    base_url: str
    model: str
    tokenizer: Path
    max_length: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One document of a benchmark task as the harness scored it, under each filter it has."""

    task: str
    document: str
    prompt: str
    target: str
    answer: str
    metrics: Mapping[str, float]
    """A document's perplexity is named what it is: `log-likelihood`, nats."""


def check_harness() -> None:
    """Raises:
    UsageError: lm-evaluation-harness is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UsageError(
            "evaluation.benchmarks needs lm-evaluation-harness, which is not installed; "
            "pip install 'evoloom[lm-eval]'"
        )


def harness_command(plan: BenchmarkPlan, endpoint: Endpoint, out: Path) -> list[str]:
    """What the harness is started with; `out` takes its results and its cache."""
    model_arguments = {
        "model": endpoint.model,
        "base_url": f"{endpoint.base_url}/completions",
        "tokenizer": str(endpoint.tokenizer),
        "tokenizer_backend": "huggingface",
        "max_length": endpoint.max_length,
        "num_concurrent": endpoint.concurrency,
    }
    return [
        # -P: a folder of the user's working directory must not shadow a module of the harness.
        *(sys.executable, "-P", "-m", "lm_eval", "run"),
        *("--model", "local-completions"),
        *("--model_args", *(f"{key}={value}" for key, value in model_arguments.items())),
        *("--tasks", ",".join(plan.names)),
        *("--output_path", str(out)),
        *("--use_cache", str(out / "cache")),
        "--log_samples",
        *(("--limit", str(plan.limit)) if plan.limit is not None else ()),
        *(("--include_path", str(plan.folder.resolve())) if plan.folder is not None else ()),
        *(("--confirm_run_unsafe_code",) if plan.runs_code else ()),
    ]


def run_harness(plan: BenchmarkPlan, endpoint: Endpoint, out: Path) -> None:
    """Run the benchmarks once; those that were run to their end in `out` are not run again. Whatever
    is raised in this thread meanwhile ends the harness first.

    Raises:
        EvoloomError: the harness failed; the message holds the end of its log and the log's path.
    """
    if (out / _DONE).exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    log = out / "log"
    environment = {**os.environ, "OPENAI_API_KEY": "none", "TOKENIZERS_PARALLELISM": "false"}
    if plan.runs_code:
        environment["HF_ALLOW_CODE_EVAL"] = "1"
    with log.open("wb") as output:
        process = subprocess.Popen(
            harness_command(plan, endpoint, out),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait()
        finally:
            _end(process)
    if process.returncode != 0:
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        raise EvoloomError(
            f"lm-evaluation-harness failed on {', '.join(plan.names)}: "
            f"{lines[-1] if lines else 'it said nothing'} (log: {log})"
        )
    (out / _DONE).write_text(json.dumps({"tasks": list(plan.names)}) + "\n")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_done(out: Path) -> bool:
    """Whether the benchmarks of a student were run to their end."""
    return (out / _DONE).exists()


def read_samples(out: Path) -> list[Sample]:
    """Every document that the harness scored, in the order of tasks and documents.

    Raises:
        EvoloomError: there are none, or they are not of the form that is known.
    """
    # Of a run that was started again there may be several; the last is whole.
    latest: dict[str, Path] = {}
    for path in sorted(out.rglob("samples_*.jsonl")):
        latest[path.name.removeprefix("samples_").rsplit("_", 1)[0]] = path
    found: dict[tuple[str, str], Sample] = {}
    for task, path in sorted(latest.items()):
        for line in path.read_text("utf-8").splitlines():
            sample = _sample(task, path, json.loads(line))
            before = found.get((task, sample.document))
            metrics = {**(before.metrics if before else {}), **sample.metrics}
            found[task, sample.document] = Sample(
                task, sample.document, sample.prompt, sample.target, sample.answer, metrics
            )
    if not found:
        raise EvoloomError(f"{out}: lm-evaluation-harness left no samples")
    return list(found.values())


def read_lower_is_better(out: Path) -> frozenset[tuple[str, str]]:
    """The (task, metric) of which the harness's latest results say that less is better; a metric
    with a filter goes by the same name without.

    Raises:
        EvoloomError: the results cannot be read, or are not of the form that is known.
    """
    found: set[tuple[str, str]] = set()
    for path in sorted(out.rglob("results_*.json"))[-1:]:
        try:
            directions = json.loads(path.read_text("utf-8")).get("higher_is_better", {})
            found.update(
                (task, metric)
                for task, metrics in directions.items()
                for metric, is_higher in metrics.items()
                if is_higher is False and metric not in _LOG_LIKELIHOODS
            )
        except (OSError, ValueError, AttributeError) as exc:
            raise EvoloomError(
                f"{path}: is not of the form of lm-evaluation-harness 0.4 "
                f"({type(exc).__name__}: {exc})"
            ) from exc
    return frozenset(found)


def _sample(task: str, path: Path, row: dict[str, Any]) -> Sample:
    try:
        name = row.get("filter", "none")
        suffix = "" if name == "none" else f",{name}"
        metrics = {
            f"{_LOG_LIKELIHOODS.get(metric, metric)}{suffix}": float(row[metric])
            for metric in row["metrics"]
            if isinstance(row.get(metric), int | float)
        }
        arguments = row["arguments"]
        first = next(iter(arguments.values())) if isinstance(arguments, dict) else arguments[0]
        prompt = first["arg_0"] if isinstance(first, dict) else first[0]
        return Sample(
            task, str(row["doc_id"]), str(prompt), str(row["target"]),
            json.dumps(row["filtered_resps"], ensure_ascii=False), metrics,
        )  # fmt: skip
    except (LookupError, TypeError, ValueError) as exc:
        raise EvoloomError(
            f"{path}: is not of the form of lm-evaluation-harness 0.4 ({type(exc).__name__}: {exc})"
        ) from exc


def pair_samples(
    file: EvaluationFile, samples: Mapping[Student, Sequence[Sample]]
) -> tuple[list[EvaluationItem], list[Score], dict[tuple[Student, tuple[int, int]], str]]:
    """Documents that both students were asked, their scores and their answers, as items."""
    by_key = {
        student: {(sample.task, sample.document): sample for sample in every}
        for student, every in samples.items()
    }
    items: list[EvaluationItem] = []
    scores: list[Score] = []
    answers: dict[tuple[Student, tuple[int, int]], str] = {}
    for number, key in enumerate(key for key in by_key["base"] if key in by_key["tuned"]):
        sample = by_key["base"][key]
        item = EvaluationItem(
            file=file.number, number=number, part="benchmark", name=f"{key[0]}/{key[1]}",
            task=key[0], instruction=sample.prompt, input="", references=(sample.target,),
            category=key[0],
        )  # fmt: skip
        items.append(item)
        for student, found in by_key.items():
            answers[student, item.position] = found[key].answer
            scores += _scores(item, student, found[key])
    return items, scores, answers


def _scores(item: EvaluationItem, student: Student, sample: Sample) -> Iterator[Score]:
    for metric, value in sample.metrics.items():
        yield Score(*item.position, metric, student, value)
