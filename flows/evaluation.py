"""Evaluating a tuned student against its base: what the CLI and the Prefect flow both call."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from flows import logs
from flows.evaluation_journal import Nobody, is_answered, take_recorded
from flows.evaluation_plan import (
    DERIVATION_VERSION,
    EvaluationPlan,
    benchmark_plan,
    build_manifest,
    plan_evaluation,
    read_plan,
)
from flows.evaluation_report import write_report
from flows.evaluation_results import Benchmarked, Results, read_results, work_out, write_results
from flows.evaluation_students import (
    InterruptedPhaseError,
    ServedCallback,
    ServedPlace,
    Students,
)
from flows.execution import drive, open_teacher
from flows.publishing import Published, publish_store
from flows.runs import Listener, new_run_id, resume_settings
from pipeline.config import Settings
from pipeline.errors import EvoloomError, InterruptedRunError, UsageError
from pipeline.manifests import check_derivation
from pipeline.records import Outcome
from pipeline.run.driver import RunEnd
from pipeline.student.evaluation.benchmarks import (
    Endpoint,
    is_done,
    pair_samples,
    read_lower_is_better,
    read_samples,
    run_harness,
)
from pipeline.student.evaluation.contamination import contamination_report, find_contaminated
from pipeline.student.evaluation.machine import Question, QuestionMachine
from pipeline.student.evaluation.questions import JUDGE, judge_questions
from pipeline.student.evaluation.records import STUDENTS, EvaluationFile, EvaluationItem, Student
from pipeline.student.evaluation.scoring import text_of
from pipeline.student.records import read_examples
from pipeline.teacher.places import TeacherPlace, connect
from pipeline.teacher.served import ServedModel
from pipeline.threads import share_cores
from store.evaluations import KIND, RecordedAnswers
from store.run_directory import is_run, read_manifest, read_pruned, read_state, runs_directory
from store.run_writer import HeldRun, check_new_run, create_run

BENCHMARKS = "benchmarks"


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """A finished evaluation, and what became of the store."""

    run_id: str
    run_dir: Path
    results: Results
    published: Published


class EvaluationStoppedError(InterruptedRunError):
    """Raised when an evaluation was stopped or cannot go on now; the same command goes on with it."""

    def __init__(self, message: str, exit_code: int = 75) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _SignalError(KeyboardInterrupt):
    """Raised by SIGTERM while no driver listens. No `Exception`, so that nothing takes it for one."""


def evaluate(
    training: str,
    settings: Settings,
    run_id: str | None = None,
    listener: Listener | None = None,
    flags: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
) -> EvaluationResult:
    """Evaluate a training run, or go on with the evaluation `run_id` if there is one.

    Args:
        flags: what was set on the command line, for a resume to be compared with the manifest.

    Raises:
        UsageError: training, files, settings or teacher are not usable; nothing was started.
        EvaluationStoppedError: stopped; the same command with this run id goes on.
        EvoloomError: it failed; its run directory says why.
    """
    listener = listener or Listener()
    store_path = settings.store.path
    run_id = run_id or new_run_id(KIND)
    if is_run(store_path, run_id):
        _check_resumable(store_path, run_id, training)
        return resume_evaluation(run_id, store_path, flags or {}, config_file, listener)
    check_new_run(store_path, run_id)
    plan = plan_evaluation(training, settings, _judge_model(settings))
    listener.message("looking for training examples in the evaluation files")
    manifest, files = build_manifest(run_id, settings, plan, _contamination(plan))
    create_run(store_path, manifest, files)
    return _hold_and_execute(run_id, settings, listener)


def resume_evaluation(
    run_id: str,
    store_path: Path,
    flags: Mapping[str, Any],
    config_file: Path | None = None,
    listener: Listener | None = None,
) -> EvaluationResult:
    """Go on with an evaluation; of one that has ended, its results.

    Raises:
        UsageError: a setting differs that the manifest pins, or the student has changed.
        RunTakenError: another process is at it.
        EvaluationStoppedError, EvoloomError: as `evaluate`.
    """
    manifest = read_manifest(runs_directory(store_path) / run_id).raw
    check_derivation(manifest, DERIVATION_VERSION)
    resolved = resume_settings(manifest, {**flags, "store.path": store_path}, config_file)
    return _hold_and_execute(run_id, resolved.settings, listener or Listener())


def _hold_and_execute(run_id: str, settings: Settings, listener: Listener) -> EvaluationResult:
    share_cores()
    store_path = settings.store.path
    logs.about(run_id=run_id, kind=KIND)
    listener.message(f"evaluation {run_id}")
    run_dir = runs_directory(store_path) / run_id
    if read_pruned(run_dir) is not None:  # only one that has ended is
        return EvaluationResult(run_id, run_dir, read_results(run_dir), publish_store(store_path))
    with HeldRun(store_path, run_id) as run:
        if read_state(run.path).state == "completed":
            results = read_results(run.path)
        else:
            results = _execute(run, settings, listener)
    return EvaluationResult(run_id, run_dir, results, publish_store(store_path))


def _contamination(plan: EvaluationPlan) -> dict[str, Any]:
    examples = read_examples(plan.record.train_path)
    found = find_contaminated(examples, plan.files, plan.items)
    return contamination_report(plan.files, plan.items, found)


def _check_resumable(store_path: Path, run_id: str, training: str) -> None:
    manifest = read_manifest(runs_directory(store_path) / run_id).raw
    if manifest["kind"] != KIND:
        raise UsageError(
            f"run {run_id} is of kind '{manifest['kind']}', no evaluation; name another --run-id"
        )
    if manifest["training"] != training:
        raise UsageError(
            f"evaluation {run_id} is of training {manifest['training']}, not of {training}; name "
            "another --run-id"
        )


def _judge_model(settings: Settings) -> ServedModel:
    """The teacher's model; an endpoint is asked, the local engine's is known."""
    if not (settings.evaluation.judge and settings.evaluation.user_oriented):
        return ServedModel("")
    if not settings.teacher.addresses:
        return ServedModel(settings.engine.model, "vllm")
    with open_teacher(settings) as place:
        return place.model


def _execute(run: HeldRun, settings: Settings, listener: Listener) -> Results:
    run.write_state("running")
    try:
        with _terminable():
            plan = read_plan(run.manifest, run.path)
            results = _evaluate(run, plan, settings, listener)
    except InterruptedPhaseError as exc:
        raise _stopped(run, exc.end) from exc
    except KeyboardInterrupt as exc:
        reason = "SIGTERM" if isinstance(exc, _SignalError) else "SIGINT"
        raise _stopped(run, RunEnd("interrupted", reason)) from exc
    except BaseException as exc:
        is_resumable = isinstance(exc, InterruptedRunError)
        state = "interrupted" if is_resumable else "failed"
        run.write_state(state, str(exc) or type(exc).__name__)
        raise
    run.spool.sync()
    run.write_state("completed")
    return results


def _stopped(run: HeldRun, end: RunEnd) -> EvoloomError:
    run.spool.sync()
    run.write_state("interrupted", end.reason)
    if end.error is not None:
        return end.error
    run_id, training = run.path.name, run.manifest["training"]
    return EvaluationStoppedError(
        f"evaluation {run_id} was interrupted ({end.reason}); nothing that was answered is lost: "
        f"`evoloom evaluate {training} --run-id {run_id}` goes on where it stopped",
        130 if end.reason == "SIGINT" else 75,
    )


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends what is going on, as Ctrl-C does; a driver that listens takes it first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _SignalError(signal.Signals(number).name)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _evaluate(
    run: HeldRun, plan: EvaluationPlan, settings: Settings, listener: Listener
) -> Results:
    students = Students(run, plan, settings, listener)
    answers = students.answer(_benchmarker(run, plan, settings, listener))

    def answer(student: Student, item: EvaluationItem) -> str:
        return text_of(answers.answers[student, item.position])

    judged = list(
        judge_questions(plan.judged_items(), answer, plan.judge, plan.judge_keys())
        if plan.judge
        else ()
    )
    verdicts = _ask_judge(run, plan, settings, judged, listener)
    benchmarked = _read_benchmarks(run, plan, settings)
    listener.message("working out scores and intervals")
    results = work_out(run, plan, settings, answers, verdicts, benchmarked)
    write_results(run.path, results)
    write_report(run.path, results)
    return results


def _benchmarker(
    run: HeldRun, plan: EvaluationPlan, settings: Settings, listener: Listener
) -> ServedCallback | None:
    """What runs the benchmarks while a student is served; None where there is nothing to run."""
    wanted = benchmark_plan(settings)
    folder = run.path / BENCHMARKS
    if wanted is None or all(is_done(folder / student) for student in STUDENTS):
        return None

    def ask(student: Student, place: ServedPlace) -> None:
        listener.message(f"benchmarks of the {student} student: {', '.join(wanted.names)}")
        endpoint = Endpoint(
            place.base_url, place.model, plan.record.base_folder, place.max_length,
            place.concurrency,
        )  # fmt: skip
        run_harness(wanted, endpoint, folder / student)

    return ask


def _read_benchmarks(run: HeldRun, plan: EvaluationPlan, settings: Settings) -> Benchmarked | None:
    wanted = benchmark_plan(settings)
    if wanted is None:
        return None
    samples = {student: read_samples(run.path / BENCHMARKS / student) for student in STUDENTS}
    file = EvaluationFile(len(plan.files), "benchmark", ", ".join(wanted.names), "", 0)
    items, scores, said = pair_samples(file, samples)
    return Benchmarked(
        replace(file, items=len(items)), tuple(items), tuple(scores), said,
        read_lower_is_better(run.path / BENCHMARKS / "base"),
    )  # fmt: skip


def _ask_judge(
    run: HeldRun, plan: EvaluationPlan, settings: Settings, questions: list[Question],
    listener: Listener,
) -> dict[tuple[int, ...], Outcome]:  # fmt: skip
    """The judge's outcomes by (file, item, order)."""
    if plan.judge is None or not questions:
        return {}
    machine = QuestionMachine(questions, settings.teacher.re_asks)

    async def take() -> None:
        keys = plan.judge_keys().values()
        recorded = RecordedAnswers(run.path.parent, keys, but_for=run.path.name)
        await take_recorded(run.journal, recorded, questions, settings.teacher.re_asks)

    asyncio.run(take())
    teacher = settings.teacher.model_copy(update={"model": plan.judge.model})
    judging = settings.model_copy(update={"teacher": teacher})

    async def ask(place: TeacherPlace) -> RunEnd:
        async with connect(place, judging.teacher) as teachers:
            return await drive(run, machine, judging, teachers, on_progress=listener.progress)

    if is_answered(run.journal, questions, settings.teacher.re_asks):
        end = asyncio.run(drive(run, machine, judging, Nobody()))
    else:
        listener.message(f"{plan.judge.model} judges {len(questions) // 2} pairs of answers")
        with open_teacher(judging, listener.message) as place:
            end = asyncio.run(ask(place))
    if end.state != "completed":
        raise InterruptedPhaseError(end)
    return {question.position: machine.outcome(JUDGE, question.position)
            for question in questions}  # fmt: skip
