"""The machine of independent questions: asked once, asked again where unreadable, rows in order."""

from __future__ import annotations

from pipeline.records import Address, Completion, JournalEntry, Outcome, Refusal
from pipeline.run.requests import TeacherRequest
from pipeline.student.evaluation.machine import Question, QuestionMachine


def question(number: int, stage: str = "judge") -> Question:
    return Question(
        stage, (number,), lambda address: TeacherRequest(address, f"{address}", {"max_tokens": 1}),
        {"scoring": "key"}, lambda outcome: isinstance(outcome, Refusal) or outcome.text != "?",
    )  # fmt: skip


def entry(address: Address, outcome: Outcome) -> JournalEntry:
    return JournalEntry(address, "hash", "hash", {"max_tokens": 1}, outcome, 1, 0.1, "now")


def said(text: str) -> Completion:
    return Completion(text, "stop", None, "model")


def test_everything_is_asked_at_once_and_named_once() -> None:
    machine = QuestionMachine([question(0), question(1)])
    assert machine.ready() == [Address("judge", (0,)), Address("judge", (1,))]
    assert machine.ready() == []
    assert machine.request(Address("judge", (1,))).prompt == "judge/1"
    assert machine.context(Address("judge", (1,))) == {"scoring": "key"}


def test_an_unreadable_answer_is_asked_for_again_as_often_as_set() -> None:
    machine = QuestionMachine([question(0)], re_asks=2)
    (address,) = machine.ready()
    for attempt in (1, 2):
        machine.apply(entry(address, said("?")))
        assert machine.finished() is None
        (address,) = machine.ready()
        assert address == Address("judge", (0,), attempt)
    machine.apply(entry(address, said("?")))
    assert (machine.finished(), machine.ready(), machine.unreadable) == ("completed", [], 3)
    (batch,) = machine.drain()
    assert [(row.attempt, row.state, row.reason) for row in batch.completions] == [
        (0, "discarded", "unreadable"), (1, "discarded", "unreadable"),
        (2, "discarded", "unreadable"),
    ]  # fmt: skip


def test_a_readable_second_answer_settles_it() -> None:
    machine = QuestionMachine([question(0)], re_asks=2)
    (address,) = machine.ready()
    machine.apply(entry(address, said("?")))
    machine.apply(entry(machine.ready()[0], said("A")))
    assert machine.finished() == "completed"
    assert machine.outcome("judge", (0,)) == said("A")
    (batch,) = machine.drain()
    assert [row.state for row in batch.completions] == ["discarded", "used"]


def test_a_refusal_is_not_asked_for_again() -> None:
    machine = QuestionMachine([question(0)], re_asks=2)
    machine.apply(entry(machine.ready()[0], Refusal("context_length", "too long")))
    assert machine.finished() == "completed"
    assert [row.reason for row in machine.drain()[0].completions] == ["context_length"]


def test_rows_come_in_position_order_however_answers_arrive() -> None:
    machine = QuestionMachine([question(number) for number in range(3)])
    addresses = machine.ready()
    machine.apply(entry(addresses[2], said("A")))
    assert machine.drain() == []
    machine.apply(entry(addresses[0], said("A")))
    assert [batch.position for batch in machine.drain()] == [(0,)]
    machine.apply(entry(addresses[1], said("A")))
    assert [batch.position for batch in machine.drain()] == [(1,), (2,)]
    progress = machine.progress()
    assert (progress.accepted, progress.target, progress.share_done) == (3, 3, 1.0)


def test_nothing_to_ask_is_done() -> None:
    machine = QuestionMachine([])
    assert (machine.finished(), machine.progress().share_done) == ("completed", 1.0)
