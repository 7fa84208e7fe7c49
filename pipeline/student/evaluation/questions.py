"""The questions of an evaluation: answers and losses of both students, verdicts of the judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.asking import Structured
from pipeline.prompting import Api, PromptBook
from pipeline.records import Address, Completion, Outcome
from pipeline.run.requests import TeacherRequest
from pipeline.student.evaluation.judging import PROMPT, parse_verdict, verdict_fields
from pipeline.student.evaluation.machine import Question
from pipeline.student.evaluation.records import EvaluationItem, Part, Student
from pipeline.student.records import Example
from pipeline.student.serving.requests import StudentPrompts

RE_ASK_TEMPERATURE = 0.7
"""A verdict that could not be read is asked for again with sampling: greedily it would be the same."""
JUDGE = "judge"


def answer_stage(student: Student) -> str:
    """The stage of a student's answers."""
    return f"answer_{student}"


def loss_stage(student: Student) -> str:
    """The stage of the losses of held-out responses."""
    return f"loss_{student}"


@dataclass(frozen=True, slots=True)
class StudentSide:
    """One of the two students: the name it is served under, and the key of its scoring of each
    file."""

    student: Student
    model: str
    keys: Mapping[int, str]


def student_questions(
    items: Sequence[EvaluationItem],
    side: StudentSide,
    prompts: StudentPrompts,
    max_tokens: Mapping[Part, int],
) -> list[Question]:
    """Every answer that a student has to give, and the losses of held-out responses."""

    def answer(item: EvaluationItem) -> Callable[[Address], TeacherRequest]:
        limit = max_tokens[item.part]
        return lambda address: prompts.answer(address, side.model, example_of(item), limit)

    def loss(item: EvaluationItem) -> Callable[[Address], TeacherRequest]:
        return lambda address: prompts.score(address, side.model, example_of(item))

    def note(item: EvaluationItem) -> dict[str, Any]:
        return {"scoring": side.keys[item.file]}

    questions = [
        Question(answer_stage(side.student), item.position, answer(item), note(item))
        for item in items
    ]
    questions += [
        Question(loss_stage(side.student), item.position, loss(item), note(item))
        for item in items
        if item.part == "held_out"
    ]
    return questions


def example_of(item: EvaluationItem) -> Example:
    """An item as the templates take it; its output is the first reference."""
    return Example(
        item.name, item.task, item.instruction, item.input, item.references[0],
        item.is_classification, item.system,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judge:
    """How verdicts are asked for."""

    model: str
    api: Api
    structured: Structured
    templates: Mapping[str, str]
    max_tokens: int
    drop_parameters: frozenset[str]

    def book(self) -> PromptBook:
        """Its prompts, compiled."""
        return PromptBook(self.templates, self.api)


def judge_questions(
    items: Sequence[EvaluationItem],
    answers: Callable[[Student, EvaluationItem], str],
    judge: Judge,
    keys: Mapping[int, str],
) -> Iterator[Question]:
    """Two verdicts an item, one in each order; none where both answers are the same text.

    Args:
        items: those to be judged.
        answers: a student's answer to an item.
        keys: by file, the key of the pair of scorings that is judged.
    """
    book = judge.book()
    for item in items:
        base, tuned = answers("base", item), answers("tuned", item)
        if base.strip() == tuned.strip():
            continue
        for order, (first, second) in enumerate(((base, tuned), (tuned, base))):
            yield Question(
                JUDGE,
                (*item.position, order),
                _verdict_request(judge, book, item, first, second),
                {"scoring": keys[item.file]},
                is_verdict,
            )


def is_verdict(outcome: Outcome) -> bool:
    """Whether a judge's answer can be read; a refusal will not change."""
    return not isinstance(outcome, Completion) or parse_verdict(outcome.text) is not None


def _verdict_request(
    judge: Judge, book: PromptBook, item: EvaluationItem, first: str, second: str
) -> Callable[[Address], TeacherRequest]:
    def make(address: Address) -> TeacherRequest:
        prompt = book.render(
            PROMPT, instruction=item.instruction, input=item.input, first=first.strip(),
            second=second.strip(), structured=judge.structured,
        )  # fmt: skip
        parameters: dict[str, Any] = {
            "model": judge.model,
            "max_tokens": judge.max_tokens,
            "temperature": RE_ASK_TEMPERATURE if address.attempt else 0.0,
            "top_p": 1.0,
            **verdict_fields(judge.structured),
        }
        if address.attempt:
            # Of the attempt alone: the same question in another evaluation is the same request.
            parameters["seed"] = address.attempt
        for name in judge.drop_parameters:
            parameters.pop(name, None)
        return TeacherRequest(address, prompt, parameters)

    return make
