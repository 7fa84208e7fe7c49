"""From answers to differences: what is counted, by what, and what is left out."""

from __future__ import annotations

import pytest

from pipeline.records import Completion, Outcome, Refusal
from pipeline.student.evaluation.examples import choose_examples
from pipeline.student.evaluation.records import (
    STUDENTS,
    Comparison,
    EvaluationFile,
    EvaluationItem,
    Part,
    Score,
)
from pipeline.student.evaluation.scoring import (
    CLEAN,
    Bootstrap,
    compare,
    score_answers,
    score_losses,
    score_verdicts,
)
from pipeline.student.serving.requests import write_logprobs

BOOTSTRAP = Bootstrap(500, 0.95, 1)


def item(number: int, part: Part = "tasks", **more: object) -> EvaluationItem:
    values = {"name": f"item-{number}", "task": f"task-{number // 2}", "instruction": "Do.",
              "input": "", "references": ("the right answer",), **more}  # fmt: skip
    return EvaluationItem(file=0, number=number, part=part, **values)  # type: ignore[arg-type]


def said(text: str) -> Completion:
    return Completion(text, "stop", None)


def answered(items: list[EvaluationItem], base: str, tuned: str) -> dict[object, Outcome]:
    texts = {"base": base, "tuned": tuned}
    return {(student, one.position): said(texts[student]) for one in items for student in STUDENTS}


def file(part: Part = "tasks") -> EvaluationFile:
    return EvaluationFile(0, part, "tasks.jsonl", "hash", 9)


def by_group(comparisons: list[Comparison]) -> dict[tuple[str, str], Comparison]:
    return {(one.group, one.metric): one for one in comparisons}


def test_tuned_minus_base_over_all_items() -> None:
    items = [item(number) for number in range(6)]
    scores = list(score_answers(items, answered(items, "wrong", "the right answer")))  # type: ignore[arg-type]
    found = by_group(compare([file()], items, scores, {}, BOOTSTRAP))
    whole = found["all", "rouge_l"]
    assert (whole.items, whole.base, whole.tuned) == (6, 0.0, 1.0)
    assert (whole.interval.difference, whole.interval.low, whole.interval.high) == (1.0, 1.0, 1.0)
    assert found["all", "exact_match"].tuned == 1.0


def test_a_refusal_scores_as_an_empty_answer() -> None:
    items = [item(0)]
    answers = answered(items, "the right answer", "the right answer")
    answers["tuned", (0, 0)] = Refusal("context_length", "too long")
    values = {
        score.student: score.value
        for score in score_answers(items, answers)  # type: ignore[arg-type]
        if score.metric == "rouge_l"
    }
    assert values == {"base": 1.0, "tuned": 0.0}


def test_categories_take_their_published_metric() -> None:
    items = [
        item(0, category="Textual Entailment"), item(1, category="Title Generation"),
        item(2, category="Title Generation"), item(3),
    ]  # fmt: skip
    scores = list(score_answers(items, answered(items, "the right", "the right answer")))  # type: ignore[arg-type]
    found = by_group(compare([file()], items, scores, {}, BOOTSTRAP))
    entailment = found["Textual Entailment", "exact_match"]
    assert (entailment.items, entailment.base, entailment.tuned) == (1, 0.0, 1.0)
    assert found["Title Generation", "rouge_l"].items == 2
    assert found["no category", "rouge_l"].items == 1
    assert ("Textual Entailment", "rouge_l") not in found
    assert found["task task-0", "rouge_l"].items == 2


def test_exact_match_of_held_out_instructions_is_of_classification_alone() -> None:
    items = [item(0, "held_out", is_classification=True), item(1, "held_out")]
    scores = list(score_answers(items, answered(items, "no", "The right answer.")))  # type: ignore[arg-type]
    found = by_group(compare([file("held_out")], items, scores, {}, BOOTSTRAP))
    assert found["all", "exact_match"].items == 1
    assert found["all", "exact_match"].tuned == 1.0
    assert found["all", "rouge_l"].items == 2


def test_losses_are_weighted_by_tokens_and_need_both_students() -> None:
    items = [item(number, "held_out") for number in range(3)]
    losses: dict[object, Outcome] = {
        ("base", (0, 0)): said(write_logprobs([-2.0])),
        ("tuned", (0, 0)): said(write_logprobs([-1.0])),
        ("base", (0, 1)): said(write_logprobs([-3.0] * 9)),
        ("tuned", (0, 1)): said(write_logprobs([-3.0] * 9)),
        ("base", (0, 2)): said(write_logprobs([-9.0])),
        ("tuned", (0, 2)): Refusal("context_length", "too long"),
    }
    scores = list(score_losses(items, losses))  # type: ignore[arg-type]
    found = by_group(compare([file("held_out")], items, scores, {}, BOOTSTRAP))["all", "nll"]
    assert found.items == 2
    assert found.base == pytest.approx((2 + 27) / 10)
    assert found.interval.difference == pytest.approx(-0.1)


def test_a_metric_is_better_where_all_of_its_tasks_say_so() -> None:
    items = [item(number, "benchmark") for number in range(4)]  # of task-0 and task-1
    scores = [
        Score(0, one.number, metric, student, 1.0)
        for one in items for metric in ("wer,clean", "acc") for student in STUDENTS
    ]  # fmt: skip
    lower = frozenset({("task-0", "wer")})
    found = by_group(
        compare([file("benchmark")], items, scores, {}, BOOTSTRAP, lower_is_better=lower)
    )
    assert {key for key, one in found.items() if one.is_lower_better} == {
        ("task task-0", "wer,clean")
    }
    lower |= {("task-1", "wer")}
    found = by_group(
        compare([file("benchmark")], items, scores, {}, BOOTSTRAP, lower_is_better=lower)
    )
    assert found["all", "wer,clean"].is_lower_better
    assert not found["all", "acc"].is_lower_better


def test_verdicts_of_both_orders() -> None:
    items = [item(number, "user_oriented") for number in range(4)]
    verdicts: dict[tuple[int, int], Outcome | None] = {
        (0, 0): said("B"), (0, 1): said("A"),  # the tuned one in both orders
        (1, 0): said("A"), (1, 1): said("A"),  # whoever comes first
        (2, 0): said("well"), (2, 1): Refusal("content_policy", "no"),
        (3, 0): None, (3, 1): None,  # the same answer: nobody was asked
    }  # fmt: skip
    scores, pairs = score_verdicts(items, lambda one, order: verdicts[one.number, order])
    found = by_group(compare([file("user_oriented")], items, scores, pairs, BOOTSTRAP))
    judged = found["all", "judge"]
    assert (judged.items, judged.base, judged.tuned) == (4, 0.0, 0.25)
    assert judged.interval.difference == 0.25
    assert dict(judged.notes) == {"tuned won": 1, "base won": 0, "ties": 3, "inconsistent": 1,
                                  "unreadable": 1, "identical": 1}  # fmt: skip


def test_scores_without_contaminated_items_are_given_beside() -> None:
    items = [item(number) for number in range(4)]
    answers = answered(items, "wrong", "wrong")
    answers["tuned", (0, 3)] = said("the right answer")
    scores = list(score_answers(items, answers))  # type: ignore[arg-type]
    found = by_group(compare([file()], items, scores, {}, BOOTSTRAP, frozenset({(0, 3)})))
    assert found["all", "rouge_l"].tuned == 0.25
    assert (found[CLEAN, "rouge_l"].tuned, found[CLEAN, "rouge_l"].items) == (0.0, 3)
    assert not [group for group, _ in by_group(compare([file()], items, scores, {}, BOOTSTRAP))
                if group == CLEAN]  # fmt: skip


class TestExamples:
    def scores(
        self, gains: list[float], part: Part = "tasks"
    ) -> tuple[list[EvaluationItem], list[Score]]:
        items = [item(number, part) for number in range(len(gains))]
        scores = [
            Score(0, number, "rouge_l", student, 0.5 + (gain if student == "tuned" else 0.0))
            for number, gain in enumerate(gains)
            for student in STUDENTS
        ]
        return items, scores

    def test_wins_and_losses_alike_the_clearest_first(self) -> None:
        gains = [number / 100 for number in range(-15, 31)]
        chosen = choose_examples(*self.scores(gains))
        assert [round(one.gain, 2) for one in chosen] == (
            [round(0.3 - number / 100, 2) for number in range(10)]
            + [round(-0.15 + number / 100, 2) for number in range(10)]
        )

    def test_where_one_side_has_too_few_the_other_fills_up(self) -> None:
        chosen = choose_examples(*self.scores([0.1] * 30 + [-0.1] * 2 + [0.0] * 9))
        assert sum(one.gain > 0 for one in chosen) == 18
        assert sum(one.gain < 0 for one in chosen) == 2
        chosen = choose_examples(*self.scores([-0.1] * 3 + [0.0] * 40))
        assert [one.gain < 0 for one in chosen] == [True] * 3 + [False] * 17

    def test_the_judge_decides_where_it_was_asked(self) -> None:
        items, scores = self.scores([0.4, -0.4], "user_oriented")
        scores += [Score(0, 0, "judge", None, -1.0), Score(0, 1, "judge", None, 1.0)]
        assert [(one.item.number, one.gain) for one in choose_examples(items, scores)] == [
            (1, 1.0), (0, -1.0)
        ]  # fmt: skip
