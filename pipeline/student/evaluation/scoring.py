"""From answers to scores, and from scores to differences with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.records import Completion, Outcome
from pipeline.student.evaluation.bootstrap import paired_interval
from pipeline.student.evaluation.judging import (
    PairVerdict,
    combine,
    count_verdicts,
    parse_verdict,
)
from pipeline.student.evaluation.metrics import category_metric, exact_match, rouge_l
from pipeline.student.evaluation.records import (
    STUDENTS,
    Comparison,
    EvaluationFile,
    EvaluationItem,
    Metric,
    Score,
    Student,
)
from pipeline.student.serving.requests import read_logprobs

ItemKey = tuple[int, int]
Outcomes = Mapping[tuple[Student, ItemKey], Outcome]
WITHOUT_CATEGORY = "no category"
CLEAN = "without contaminated items"
_METRICS: tuple[Metric, ...] = ("rouge_l", "exact_match", "nll", "judge")


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are drawn."""

    resamples: int
    confidence: float
    seed: int


def text_of(outcome: Outcome) -> str:
    """An answer's text; what was refused is an empty answer."""
    return outcome.text.strip() if isinstance(outcome, Completion) else ""


def score_answers(items: Sequence[EvaluationItem], answers: Outcomes) -> Iterator[Score]:
    """ROUGE-L of every answer; exact match of tasks and of held-out classification."""
    for item in items:
        for student in STUDENTS:
            text = text_of(answers[student, item.position])
            yield Score(*item.position, "rouge_l", student, rouge_l(text, item.references))
            if item.part == "tasks" or item.is_classification:
                value = exact_match(text, item.references)
                yield Score(*item.position, "exact_match", student, value)


def score_losses(items: Sequence[EvaluationItem], losses: Outcomes) -> Iterator[Score]:
    """Negative log-likelihood of held-out responses in nats a token, weighted by their tokens.

    A response that is too long for the model has none, for either student.
    """
    for item in items:
        if item.part != "held_out":
            continue
        outcomes = {student: losses[student, item.position] for student in STUDENTS}
        for student, outcome in outcomes.items():
            if not all(isinstance(other, Completion) for other in outcomes.values()):
                continue
            assert isinstance(outcome, Completion)
            values = read_logprobs(outcome)
            loss = -sum(values) / len(values)
            yield Score(*item.position, "nll", student, loss, float(len(values)))


def score_verdicts(
    items: Sequence[EvaluationItem],
    verdict: Callable[[EvaluationItem, int], Outcome | None],
) -> tuple[list[Score], dict[ItemKey, PairVerdict]]:
    """The judge's verdicts, both orders together.

    Args:
        verdict: of an item and an order (0: the base's answer first); None where nobody was asked,
            because the answers are the same.
    """
    scores = []
    verdicts = {}
    for item in items:
        said = [verdict(item, order) for order in (0, 1)]
        if said[0] is None or said[1] is None:
            pair = PairVerdict(0, "identical")
        else:
            read = [parse_verdict(one.text) if isinstance(one, Completion) else None
                    for one in said]  # fmt: skip
            pair = combine(read[0], read[1])
        verdicts[item.position] = pair
        scores.append(Score(*item.position, "judge", None, float(pair.value)))
    return scores, verdicts


def compare(
    files: Sequence[EvaluationFile],
    items: Sequence[EvaluationItem],
    scores: Sequence[Score],
    verdicts: Mapping[ItemKey, PairVerdict],
    bootstrap: Bootstrap,
    contaminated: frozenset[ItemKey] = frozenset(),
    lower_is_better: frozenset[tuple[str, Metric]] = frozenset(),
) -> list[Comparison]:
    """Base against tuned, file by file: all items, then by category, then by task.

    Args:
        lower_is_better: (task, metric) of benchmarks, the metric without its filter.
    """
    table = _Table(items, scores, verdicts, bootstrap, lower_is_better)
    found: list[Comparison] = []
    for file in files:
        mine = [item for item in items if item.file == file.number]
        metrics = _METRICS if file.part != "benchmark" else table.metrics(mine)
        found += [table.compare(file, "all", mine, metric) for metric in metrics
                  if table.has(mine, metric)]  # fmt: skip
        clean = [item for item in mine if item.position not in contaminated]
        if clean and len(clean) < len(mine):
            found += [table.compare(file, CLEAN, clean, metric) for metric in metrics
                      if table.has(clean, metric)]  # fmt: skip
        if file.part == "tasks":
            found += _by_category(table, file, mine)
        if file.part == "benchmark":
            found += _by_benchmark(table, file, mine)
    return found


def _by_benchmark(
    table: _Table, file: EvaluationFile, items: Sequence[EvaluationItem]
) -> Iterator[Comparison]:
    for task in dict.fromkeys(item.task for item in items):
        chosen = [item for item in items if item.task == task]
        for metric in table.metrics(chosen):
            yield table.compare(file, f"task {task}", chosen, metric)


def _by_category(
    table: _Table, file: EvaluationFile, items: Sequence[EvaluationItem]
) -> Iterator[Comparison]:
    categories = sorted({item.category for item in items if item.category})
    if categories:
        for category in categories:
            chosen = [item for item in items if item.category == category]
            yield table.compare(file, category, chosen, category_metric(category))
        if without := [item for item in items if not item.category]:
            yield table.compare(file, WITHOUT_CATEGORY, without, "rouge_l")
    for task in dict.fromkeys(item.task for item in items):
        chosen = [item for item in items if item.task == task]
        yield table.compare(file, f"task {task}", chosen, "rouge_l")


class _Table:
    """Scores by item, metric and student."""

    def __init__(
        self,
        items: Sequence[EvaluationItem],
        scores: Sequence[Score],
        verdicts: Mapping[ItemKey, PairVerdict],
        bootstrap: Bootstrap,
        lower_is_better: frozenset[tuple[str, Metric]],
    ) -> None:
        self._scores = {
            (score.file, score.number, score.metric, score.student): score for score in scores
        }
        self._verdicts = verdicts
        self._bootstrap = bootstrap
        self._lower_is_better = lower_is_better

    def _scored(
        self, items: Sequence[EvaluationItem], metric: Metric
    ) -> list[tuple[EvaluationItem, Score, Score]]:
        """The items that have this score for both students; a verdict stands for both."""
        found = []
        for item in items:
            both = [
                self._scores.get((*item.position, metric, None if metric == "judge" else student))
                for student in STUDENTS
            ]
            if both[0] is not None and both[1] is not None:
                found.append((item, both[0], both[1]))
        return found

    def metrics(self, items: Sequence[EvaluationItem]) -> list[Metric]:
        """The metrics that any of the items has."""
        wanted = {item.position for item in items}
        return sorted({metric for file, number, metric, _ in self._scores
                       if (file, number) in wanted})  # fmt: skip

    def has(self, items: Sequence[EvaluationItem], metric: Metric) -> bool:
        return bool(self._scored(items, metric))

    def compare(
        self, file: EvaluationFile, group: str, items: Sequence[EvaluationItem], metric: Metric
    ) -> Comparison:
        rows = self._scored(items, metric)
        weights = [base.weight for _, base, _ in rows]
        notes: Mapping[str, int] = {}
        if metric == "judge":
            differences = [base.value for _, base, _ in rows]
            notes = count_verdicts([self._verdicts[item.position] for item, _, _ in rows])
            base_mean = notes["base won"] / len(rows)
            tuned_mean = notes["tuned won"] / len(rows)
        else:
            differences = [tuned.value - base.value for _, base, tuned in rows]
            base_mean = _mean([base.value for _, base, _ in rows], weights)
            tuned_mean = _mean([tuned.value for _, _, tuned in rows], weights)
        interval = paired_interval(
            differences, [item.task for item, _, _ in rows], weights,
            resamples=self._bootstrap.resamples, confidence=self._bootstrap.confidence,
            seed=self._bootstrap.seed,
        )  # fmt: skip
        return Comparison(
            file.number, file.part, file.name, group, metric, len(rows), base_mean, tuned_mean,
            interval, notes,
            # Tasks that disagree are left as most metrics are.
            all((item.task, metric.partition(",")[0]) in self._lower_is_better
                for item, _, _ in rows),
        )  # fmt: skip


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
