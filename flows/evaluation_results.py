"""The results of an evaluation: worked out, and kept in its run directory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from flows.evaluation_plan import EvaluationPlan
from flows.evaluation_students import StudentAnswers
from pipeline.config import Settings
from pipeline.errors import EvoloomError
from pipeline.records import Completion, Outcome
from pipeline.student.evaluation.contamination import contaminated_items
from pipeline.student.evaluation.examples import choose_examples
from pipeline.student.evaluation.judging import PairVerdict
from pipeline.student.evaluation.records import (
    STUDENTS,
    Comparison,
    EvaluationFile,
    EvaluationItem,
    Interval,
    Score,
    Student,
)
from pipeline.student.evaluation.scoring import (
    Bootstrap,
    compare,
    score_answers,
    score_losses,
    score_verdicts,
    text_of,
)
from store.checked_lines import write_atomically
from store.evaluations import EVALUATED, RESULTS, SCORES, SERVING
from store.run_writer import HeldRun

EXAMPLES = 20
ItemKey = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Benchmarked:
    """What lm-evaluation-harness scored, as a file of items."""

    file: EvaluationFile
    items: tuple[EvaluationItem, ...]
    scores: tuple[Score, ...]
    answers: Mapping[tuple[Student, ItemKey], str]
    lower_is_better: frozenset[tuple[str, str]] = frozenset()
    """By task and metric."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """A file scored by a configuration: what the log of scorings holds.

    `student` is `base`, `tuned` or `judge`; `recorded_from` names the earlier evaluations that
    answers were taken from; where there are none, all were asked now.
    """

    file: int
    student: str
    key: str
    items: int
    recorded_from: tuple[str, ...]
    scored_at: str


@dataclass(frozen=True, slots=True)
class Shown:
    """An example with its texts, as the report shows it."""

    name: str
    part: str
    outcome: Literal["won", "lost", "tied"]
    instruction: str
    input: str
    reference: str
    base_answer: str
    tuned_answer: str
    base: float
    tuned: float
    """ROUGE-L of the answers."""
    verdict: int | None


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a report says of an evaluation."""

    run_id: str
    training: str
    dataset: str
    base: str
    method: str
    template: str
    dtype: str
    serving: str
    proof: Mapping[str, Any] | None
    judge: str | None
    limit: int | None
    bootstrap: Bootstrap
    files: tuple[EvaluationFile, ...]
    asked: Mapping[int, int]
    """Items asked of each file."""
    contaminated: Mapping[int, int]
    counts: Mapping[str, int]
    """Answers that were refused or cut, by student."""
    comparisons: tuple[Comparison, ...]
    scorings: tuple[Scoring, ...]
    examples: tuple[Shown, ...]

    def of(self, file: EvaluationFile) -> list[Comparison]:
        """The comparisons of a file, in order."""
        return [one for one in self.comparisons if one.file == file.number]


def work_out(
    run: HeldRun,
    plan: EvaluationPlan,
    settings: Settings,
    students: StudentAnswers,
    verdicts: Mapping[tuple[int, ...], Outcome],
    benchmarked: Benchmarked | None,
) -> Results:
    """Score everything, write the rows for the store, and compare.

    Args:
        verdicts: the judge's outcomes by (file, item, order).
    """
    scores = [*score_answers(plan.items, students.answers),
              *score_losses(plan.items, students.losses)]  # fmt: skip
    pair_scores, pairs = score_verdicts(
        plan.judged_items(), lambda item, order: verdicts.get((*item.position, order))
    )
    scores += pair_scores
    items, files = list(plan.items), list(plan.files)
    said = {key: text_of(outcome) for key, outcome in students.answers.items()}
    if benchmarked is not None:
        items += benchmarked.items
        files.append(benchmarked.file)
        scores += benchmarked.scores
        said |= benchmarked.answers
    contamination = run.manifest["contamination"]
    contaminated = contaminated_items(contamination)
    evaluation = settings.evaluation
    bootstrap = Bootstrap(evaluation.resamples, evaluation.confidence, evaluation.seed)
    comparisons = compare(
        files, items, scores, pairs, bootstrap, contaminated,
        benchmarked.lower_is_better if benchmarked else frozenset(),
    )  # fmt: skip
    _write_rows(run.path, items, scores, students, said, contaminated, pairs)
    serving = json.loads((run.path / SERVING).read_bytes())
    return Results(
        run_id=run.path.name,
        training=plan.record.run_id,
        dataset=plan.record.dataset,
        base=plan.record.base_name,
        method=plan.record.method,
        template=plan.record.template_name,
        dtype=plan.record.dtype,
        serving=serving["serving"],
        proof=serving["proof"],
        judge=plan.judge.model if plan.judge else None,
        limit=evaluation.limit,
        bootstrap=bootstrap,
        files=tuple(files),
        asked={file.number: sum(item.file == file.number for item in items) for file in files},
        contaminated={one["file"]: one["contaminated"] for one in contamination["files"]},
        counts=_count(students),
        comparisons=tuple(comparisons),
        scorings=_scorings(run, plan, students),
        examples=tuple(
            Shown(
                one.item.name, one.item.part,
                "won" if one.gain > 0 else "lost" if one.gain < 0 else "tied",
                one.item.instruction, one.item.input, one.item.references[0],
                said["base", one.item.position], said["tuned", one.item.position],
                one.base, one.tuned, one.verdict,
            )
            for one in choose_examples(plan.items, scores, EXAMPLES)
        ),
    )  # fmt: skip


def _count(students: StudentAnswers) -> dict[str, int]:
    counts: dict[str, int] = {}
    for student in STUDENTS:
        outcomes = [one for (who, _), one in students.answers.items() if who == student]
        answers = [one for one in outcomes if isinstance(one, Completion)]
        counts[f"{student} answers"] = len(outcomes)
        counts[f"{student} refused"] = len(outcomes) - len(answers)
        counts[f"{student} cut at the longest answer"] = sum(
            one.finish_reason == "length" for one in answers
        )
        counts[f"{student} empty"] = sum(not one.text.strip() for one in answers)
    return counts


def _scorings(run: HeldRun, plan: EvaluationPlan, students: StudentAnswers) -> tuple[Scoring, ...]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    asked = {file.number: sum(item.file == file.number for item in plan.items)
             for file in plan.files}  # fmt: skip
    found = [
        Scoring(file.number, student, plan.keys[student][file.number], asked[file.number],
                students.recorded_from.get((student, file.number), ()), now)
        for file in plan.files
        for student in STUDENTS
    ]  # fmt: skip
    sources: dict[int, set[str]] = {}
    for entry in run.journal.entries():
        if "recorded_from" in entry.context:
            source = entry.context["recorded_from"]
            sources.setdefault(entry.address.position[0], set()).add(source)
    found += [
        Scoring(number, "judge", key, asked[number], tuple(sorted(sources.get(number, ()))), now)
        for number, key in plan.judge_keys().items()
    ]
    return tuple(found)


def _write_rows(
    run_dir: Path,
    items: Sequence[EvaluationItem],
    scores: Sequence[Score],
    students: StudentAnswers,
    said: Mapping[tuple[Student, ItemKey], str],
    contaminated: frozenset[ItemKey],
    pairs: Mapping[ItemKey, PairVerdict],
) -> None:
    """The rows that the store ingests: items with answers, and scores."""

    def finish(student: Student, item: EvaluationItem) -> str | None:
        outcome = students.answers.get((student, item.position))
        if outcome is None:
            return None
        return outcome.finish_reason if isinstance(outcome, Completion) else outcome.kind

    rows = (
        {
            **item.to_json(),
            "base_answer": said["base", item.position],
            "tuned_answer": said["tuned", item.position],
            "base_finish": finish("base", item),
            "tuned_finish": finish("tuned", item),
            "is_contaminated": item.position in contaminated,
            "verdict": pairs[item.position].kind if item.position in pairs else None,
        }
        for item in items
    )
    write_atomically(run_dir / EVALUATED, _lines(rows))
    write_atomically(run_dir / SCORES, _lines(asdict(score) for score in scores))


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    return text.encode("utf-8", "surrogatepass")


def write_results(run_dir: Path, results: Results) -> None:
    """Keep the results; with them the evaluation has its end."""
    data = json.dumps(asdict(results), ensure_ascii=False, indent=2)
    write_atomically(run_dir / RESULTS, data.encode("utf-8", "surrogatepass") + b"\n")


def read_results(run_dir: Path) -> Results:
    """What `write_results` wrote.

    Raises:
        EvoloomError: it is not there or cannot be read.
    """
    path = run_dir / RESULTS
    try:
        value = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
        return Results(
            **{
                **value,
                "bootstrap": Bootstrap(**value["bootstrap"]),
                "files": tuple(map(EvaluationFile.from_json, value["files"])),
                "asked": {int(key): count for key, count in value["asked"].items()},
                "contaminated": {int(key): count for key, count in value["contaminated"].items()},
                "comparisons": tuple(
                    Comparison(**{**one, "interval": Interval(**one["interval"])})
                    for one in value["comparisons"]
                ),
                "scorings": tuple(
                    Scoring(**{**one, "recorded_from": tuple(one["recorded_from"])})
                    for one in value["scorings"]
                ),
                "examples": tuple(Shown(**one) for one in value["examples"]),
            }
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise EvoloomError(f"{path}: cannot be read: {type(exc).__name__}: {exc}") from exc
