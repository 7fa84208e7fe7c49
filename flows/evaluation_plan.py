"""What an evaluation does, worked out and checked before anything is started: its manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.asking import structured_output
from pipeline.config import Settings
from pipeline.errors import UsageError
from pipeline.manifests import common_parts
from pipeline.prompting import load_templates
from pipeline.student.evaluation.benchmarks import BenchmarkPlan, check_harness
from pipeline.student.evaluation.identity import Configuration, scoring_key
from pipeline.student.evaluation.judging import PROMPT
from pipeline.student.evaluation.questions import Judge
from pipeline.student.evaluation.records import (
    STUDENTS,
    EvaluationFile,
    EvaluationItem,
    Part,
    Student,
)
from pipeline.student.evaluation.tasks import (
    draw,
    held_out_items,
    read_tasks,
    read_user_oriented,
)
from pipeline.student.methods import get_method
from pipeline.student.methods.base import Serving
from pipeline.student.records import read_examples
from pipeline.student.serving.identity import hash_folder
from pipeline.student.serving.served import adapter_rank, fitting_rank
from pipeline.student.trained import TrainingRecord, read_training
from pipeline.teacher.served import ServedModel
from store.evaluations import ITEMS, KIND, SCORINGS
from store.run_directory import find_runs, read_state, runs_directory

DERIVATION_VERSION = 1
_SAMPLE = "Name three rivers of Europe."


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The pinned part of an evaluation."""

    record: TrainingRecord
    serving: Serving
    base_hash: str
    adapter_hash: str
    files: tuple[EvaluationFile, ...]
    items: tuple[EvaluationItem, ...]
    keys: Mapping[Student, Mapping[int, str]]
    """By student and file, the key of its scoring."""
    judge: Judge | None

    def judged_items(self) -> list[EvaluationItem]:
        """The items whose answers are compared by the judge."""
        return [item for item in self.items if item.part == "user_oriented"] if self.judge else []

    def judge_keys(self) -> dict[int, str]:
        """By file, the key of the pair of scorings that the judge compares."""
        judge = self.judge
        if judge is None:
            return {}
        about = [judge.model, judge.api, judge.structured, judge.max_tokens,
                 sorted(judge.templates.items())]  # fmt: skip
        return {
            file.number: _digest([self.keys["base"][file.number],
                                  self.keys["tuned"][file.number], about])
            for file in self.files
            if file.part == "user_oriented"
        }  # fmt: skip


def limits_of(settings: Settings) -> dict[Part, int]:
    """The longest answer of each part, in tokens."""
    evaluation = settings.evaluation
    return {
        "held_out": evaluation.held_out_max_tokens,
        "tasks": evaluation.tasks_max_tokens,
        "user_oriented": evaluation.user_oriented_max_tokens,
    }


def benchmark_plan(settings: Settings) -> BenchmarkPlan | None:
    """What lm-evaluation-harness is asked to do; None where nothing."""
    evaluation = settings.evaluation
    if not evaluation.benchmarks:
        return None
    return BenchmarkPlan(
        evaluation.benchmarks, evaluation.benchmark_folder, evaluation.benchmark_limit,
        evaluation.benchmark_unsafe_code,
    )  # fmt: skip


def plan_evaluation(training: str, settings: Settings, judge_model: ServedModel) -> EvaluationPlan:
    """Work out an evaluation of a training run.

    Args:
        judge_model: what the teacher's pre-flight found.

    Raises:
        UsageError: the training is not there or has not ended, a file is no evaluation file, or a
            setting does not fit.
    """
    runs_dir = runs_directory(settings.store.path)
    find_runs(runs_dir, [training])
    record = read_training(runs_dir / training)
    state = read_state(runs_dir / training).state
    if state != "completed":
        raise UsageError(
            f"training {training} is {state}; only a finished one has a student to evaluate. "
            f"`evoloom resume {training}` goes on with it"
        )
    serving = _serving(record, settings)
    files, items = _read_files(record, settings)
    if not items and not settings.evaluation.benchmarks:
        raise UsageError(
            "nothing to evaluate: evaluation.held_out and evaluation.user_oriented are off, and no "
            "evaluation.tasks or evaluation.benchmarks are named"
        )
    base_hash, adapter_hash = hash_folder(record.base_folder), hash_folder(record.adapter_dir)
    judge = _judge(settings, judge_model, files)
    keys = _keys(record, settings, serving, files, base_hash, adapter_hash)
    return EvaluationPlan(
        record, serving, base_hash, adapter_hash, tuple(files), tuple(items), keys, judge
    )


def _serving(record: TrainingRecord, settings: Settings) -> Serving:
    """The way to serve, checked as far as it can be before an engine is started."""
    method = get_method(record.method)
    own = method.serving(method.settings_type(**record.method_settings))
    wanted = settings.evaluation.serving
    if wanted == "merged" and own == "transformers":
        raise UsageError(
            f"evaluation.serving=merged: method '{record.method}' has no merged form; leave it out, "
            "and it is evaluated through Transformers"
        )
    serving: Serving = own if wanted == "auto" else wanted
    if serving == "adapter":
        fitting_rank(adapter_rank(record.adapter_dir))
    if settings.evaluation.benchmarks:
        check_harness()
        if serving == "transformers":
            raise UsageError(
                "evaluation.benchmarks are asked of a served student, and this one is evaluated "
                f"through Transformers (method '{record.method}', evaluation.serving={wanted})"
            )
    return serving


def _read_files(
    record: TrainingRecord, settings: Settings
) -> tuple[list[EvaluationFile], list[EvaluationItem]]:
    evaluation = settings.evaluation
    files: list[EvaluationFile] = []
    items: list[EvaluationItem] = []

    def add(file: EvaluationFile, found: Sequence[EvaluationItem]) -> None:
        files.append(file)
        items.extend(draw(found, evaluation.limit, evaluation.seed, file))

    if evaluation.held_out:
        examples = read_examples(record.held_out_path)
        if examples:
            add(*held_out_items(examples, f"held-out of {record.run_id}", len(files)))
    for path in evaluation.tasks:
        add(*read_tasks(path, len(files)))
    if evaluation.user_oriented:
        add(*read_user_oriented(evaluation.user_oriented_file, len(files)))
    twice = {file.sha256 for file in files if sum(f.sha256 == file.sha256 for f in files) > 1}
    if twice:
        names = ", ".join(file.name for file in files if file.sha256 in twice)
        raise UsageError(f"the same evaluation file is named twice: {names}")
    return files, items


def _judge(settings: Settings, model: ServedModel, files: Sequence[EvaluationFile]) -> Judge | None:
    if not settings.evaluation.judge or all(file.part != "user_oriented" for file in files):
        return None
    teacher = settings.teacher
    judge = Judge(
        model.name,
        teacher.api,
        structured_output(teacher, model),
        load_templates([PROMPT], teacher.api, settings.prompts.directory),
        settings.evaluation.judge_max_tokens,
        frozenset(teacher.drop_parameters),
    )
    for shown in (_SAMPLE, "The Rhine", "The Danube"):
        judge.book().check(
            PROMPT, shown, instruction=_SAMPLE, input="", first="The Rhine", second="The Danube",
            structured="off",
        )  # fmt: skip
    return judge


def _keys(
    record: TrainingRecord,
    settings: Settings,
    serving: Serving,
    files: Sequence[EvaluationFile],
    base_hash: str,
    adapter_hash: str,
) -> dict[Student, dict[int, str]]:
    limits = limits_of(settings)
    engine = "transformers" if serving == "transformers" else "vllm"
    keys: dict[Student, dict[int, str]] = {}
    for student in STUDENTS:
        keys[student] = {}
        for file in files:
            decoding = {
                "temperature": 0.0,
                "max_tokens": limits[file.part],
                "template": record.template_name,
                "template_text": record.template_text,
                "dtype": record.dtype,
            }
            tuned = adapter_hash if student == "tuned" else None
            configuration = Configuration(base_hash, tuned, engine, decoding)
            keys[student][file.number] = scoring_key(configuration, file.sha256)
    return keys


def build_manifest(
    run_id: str, settings: Settings, plan: EvaluationPlan, contamination: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest of a new evaluation, and the files of its run directory beside it."""
    record = plan.record
    judge = plan.judge
    model = judge.model if judge else ""
    manifest = {
        **common_parts(run_id, KIND, settings, model, DERIVATION_VERSION),
        "run_seed": settings.evaluation.seed,
        "training": record.run_id,
        "dataset": record.dataset,
        "base": {"name": record.base_name, "folder": str(record.base_folder),
                 "hash": plan.base_hash},
        "adapter_hash": plan.adapter_hash,
        "method": {"name": record.method, "settings": dict(record.method_settings)},
        "template": record.template_name,
        "dtype": record.dtype,
        "serving": plan.serving,
        "files": [asdict(file) for file in plan.files],
        "keys": {student: {str(number): key for number, key in keys.items()}
                 for student, keys in plan.keys.items()},
        "judge": None if judge is None else {
            "model": judge.model, "api": judge.api, "structured": judge.structured,
            "templates": dict(judge.templates), "max_tokens": judge.max_tokens,
            "drop_parameters": sorted(judge.drop_parameters),
        },
        "contamination": dict(contamination),
    }  # fmt: skip
    scorings = [
        {"file": file.number, "student": student, "key": plan.keys[student][file.number]}
        for file in plan.files
        for student in STUDENTS
    ] + [
        {"file": number, "student": "judge", "key": key}
        for number, key in plan.judge_keys().items()
    ]
    lines = (json.dumps(item.to_json(), ensure_ascii=False) for item in plan.items)
    return manifest, {
        ITEMS: "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"),
        SCORINGS: json.dumps({"scorings": scorings}, indent=2).encode(),
    }


def read_plan(manifest: Mapping[str, Any], run_dir: Path) -> EvaluationPlan:
    """The plan of an evaluation that was begun.

    Raises:
        UsageError: the base model or the adapter is no longer the one it was begun with.
    """
    record = read_training(run_dir.parent / manifest["training"])
    for what, folder, then in (
        ("the base model", record.base_folder, manifest["base"]["hash"]),
        ("the adapter", record.adapter_dir, manifest["adapter_hash"]),
    ):
        if hash_folder(folder) != then:
            raise UsageError(
                f"evaluation {manifest['run_id']}: {what} in {folder} is not the one that it was "
                "begun with; start a new evaluation"
            )
    judge = manifest["judge"]
    lines = (run_dir / ITEMS).read_bytes().decode("utf-8", "surrogatepass").split("\n")
    keys: dict[Student, dict[int, str]] = {
        student: {int(number): key for number, key in manifest["keys"][student].items()}
        for student in STUDENTS
    }
    return EvaluationPlan(
        record,
        manifest["serving"],
        manifest["base"]["hash"],
        manifest["adapter_hash"],
        tuple(map(EvaluationFile.from_json, manifest["files"])),
        tuple(EvaluationItem.from_json(json.loads(line)) for line in lines if line),
        keys,
        None if judge is None else Judge(
            **{**judge, "drop_parameters": frozenset(judge["drop_parameters"])}
        ),
    )  # fmt: skip


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
