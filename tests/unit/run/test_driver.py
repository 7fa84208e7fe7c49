"""The driver on a real machine, with a teacher and a journal in memory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache

import pytest

from pipeline.records import Address, Completion, JournalEntry, Refusal
from pipeline.run.journal import ChangedRequestError
from pipeline.run.replay import GiveUpError, check_give_up, waiting
from pipeline.run.requests import TeacherRequest
from pipeline.self_instruct.machine import SelfInstructMachine
from pipeline.teacher.failures import FinalTeacherError, TransientTeacherError
from tests.support.memory import (
    Execution,
    MemoryJournal,
    MemorySink,
    MemoryTeacher,
    make_plan,
    scripted,
)

PLAN = make_plan(10)


@cache
def stuck_address() -> Address:
    """Where the second accepted instruction is classified."""
    execution = Execution(PLAN)
    execution.run()
    return Address("classify", execution.sink.accepted()[1][0])


@pytest.fixture(scope="module")
def whole() -> Execution:
    """A run from its beginning to its end."""
    execution = Execution(PLAN)
    assert execution.run().state == "completed"
    return execution


@pytest.mark.parametrize("text", ["", "<think>\nOkay"])
def test_classifications_that_say_nothing_are_taken_for_no_and_warned_of(text: str) -> None:
    def answer(request: TeacherRequest) -> Completion:
        completion = scripted(request)
        return replace(completion, text=text) if request.address.stage == "classify" else completion

    execution = Execution(PLAN, MemoryTeacher(answer))
    assert execution.run().state == "completed"
    rows = [row for batch in execution.sink.batches for row in batch.instructions]
    assert {row.is_classification for row in rows if row.state == "accepted"} == {False}
    (warning,) = execution.machine.progress().warnings
    assert "self_instruct.classification.chat.max_tokens" in warning


class TestWindow:
    @pytest.mark.parametrize("concurrency", [1, 3, 64])
    @pytest.mark.parametrize("order", [1, 2])
    def test_arrival_order_and_concurrency_change_nothing_accepted(
        self, whole: Execution, concurrency: int, order: int
    ) -> None:
        flags = {"teacher__concurrency": concurrency}
        other = Execution(PLAN, MemoryTeacher(order=order), flags=flags)
        assert other.run().state == "completed"
        assert other.sink.accepted() == whole.sink.accepted()
        assert other.teacher.most_in_flight <= concurrency

    def test_no_generation_is_asked_beyond_the_window(self) -> None:
        applied: set[int] = set()

        def answer(request: TeacherRequest) -> Completion:
            if request.address.stage == "generate":
                g = request.address.position[0]
                assert g < PLAN.window or g - PLAN.window in applied
            return scripted(request)

        def on_change(execution: Execution) -> None:
            applied.update(range(execution.machine._applied))

        Execution(PLAN, MemoryTeacher(answer), flags={"teacher__concurrency": 64}).run(on_change)
        assert applied


class TestTarget:
    def test_exactly_the_target_is_accepted_and_the_rest_is_surplus(self, whole: Execution) -> None:
        assert len(whole.sink.accepted()) == PLAN.target
        last = whole.sink.accepted()[-1][0]
        states = {
            row.position: row.state for batch in whole.sink.batches for row in batch.instructions
        }
        assert all(state != "pending" for state in states.values())
        assert {states[at] for at in states if at > last} <= {"surplus", "rejected"}
        assert "surplus" not in {states[at] for at in states if at <= last}

    def test_an_instruction_without_instances_is_not_accepted_and_may_be_a_shot(self) -> None:
        def answer(request: TeacherRequest) -> Completion:
            completion = scripted(request)
            if request.address.stage == "instances" and request.address.position[1] == 0:
                return replace(completion, text="")
            return completion

        execution = Execution(make_plan(30), MemoryTeacher(answer))
        assert execution.run().state == "completed"
        assert len(execution.sink.accepted()) == 30
        assert all(position[1] != 0 for position, _, _ in execution.sink.accepted())
        shots = {
            shot.reference for batch in execution.sink.batches for row in batch.completions
            for shot in row.shots if shot.source == "machine"
        }  # fmt: skip
        assert any(reference.endswith(".0") for reference in shots)

    def test_every_journaled_answer_has_a_row(self, whole: Execution) -> None:
        rows = {
            (row.stage, row.position) for batch in whole.sink.batches for row in batch.completions
        }
        assert rows == {(at.stage, at.position) for at in whole.journal.by_address}

    def test_a_ceiling_ends_the_run_with_what_there_is(self) -> None:
        plan = replace(make_plan(50), ceiling=4)
        execution = Execution(plan)
        assert execution.run().state == "ceiling"
        positions = {at.position[0] for at in execution.teacher.asked if at.stage == "generate"}
        assert positions == {0, 1, 2, 3}
        assert 0 < len(execution.sink.accepted()) < 50

    def test_what_is_in_flight_when_the_target_is_reached_finishes_and_is_journaled(self) -> None:
        # A surplus answer is held until the run needs nothing more.
        execution = Execution(PLAN, flags={"teacher__concurrency": 64})
        released = asyncio.Event()

        async def hold(request: TeacherRequest) -> None:
            if request.address == Address("generate", (held,)):
                await released.wait()

        def on_change(running: Execution) -> None:
            if running.machine.finished():
                released.set()

        held = max(at.position[0] for at in _journal_of_wide_run() if at.stage == "generate")
        execution.teacher.hold = hold
        assert execution.run(on_change).state == "completed"
        assert Address("generate", (held,)) in execution.journal.by_address

    def test_what_fails_after_the_target_is_reached_is_not_sent_again(self) -> None:
        execution = Execution(PLAN, flags={"teacher__concurrency": 64})
        held = max(at.position[0] for at in _journal_of_wide_run() if at.stage == "generate")
        finished: list[int] = []

        def answer(request: TeacherRequest) -> Completion:
            if request.address == Address("generate", (held,)):
                raise TransientTeacherError("gone")
            return scripted(request)

        def on_change(running: Execution) -> None:
            if running.machine.finished():
                finished.append(len(running.teacher.asked))

        execution.teacher.answer = answer
        assert execution.run(on_change).state == "completed"
        assert Address("generate", (held,)) not in execution.journal.by_address
        assert len(execution.teacher.asked) == finished[0]


def _journal_of_wide_run() -> list[Address]:
    execution = Execution(PLAN, flags={"teacher__concurrency": 64})
    execution.run()
    return list(execution.journal.by_address)


class TestResume:
    @pytest.mark.parametrize("kept", [0, 1, 7, 20, 1000])
    def test_any_part_of_a_journal_is_resumed_to_the_same_rows(
        self, whole: Execution, kept: int
    ) -> None:
        entries = list(whole.journal.entries())[:kept]
        teacher = MemoryTeacher(order=5)
        resumed = Execution(PLAN, teacher, MemoryJournal(entries))
        assert resumed.run().state == "completed"
        assert resumed.sink.accepted() == whole.sink.accepted()
        assert not {entry.address for entry in entries} & set(teacher.asked)
        assert resumed.driver.replayed >= min(kept, len(entries)) - PLAN.window

    def test_a_finished_run_asks_nobody(self, whole: Execution) -> None:
        teacher = MemoryTeacher()
        again = Execution(PLAN, teacher, MemoryJournal(list(whole.journal.entries())))
        assert again.run().state == "completed"
        assert teacher.asked == []
        assert again.sink.rows() == whole.sink.rows()

    def test_holes_in_a_journal_are_asked_and_nothing_else(self, whole: Execution) -> None:
        entries = list(whole.journal.entries())
        last = whole.sink.accepted()[-1][0]
        holes = [entry.address for entry in entries[::5] if entry.address.position <= last]
        journal = MemoryJournal([item for item in entries if item.address not in holes])
        resumed = Execution(PLAN, MemoryTeacher(order=9), journal)
        assert resumed.run().state == "completed"
        assert set(holes) <= set(resumed.teacher.asked)
        assert resumed.sink.accepted() == whole.sink.accepted()

    def test_another_request_at_a_known_address_stops_the_run_and_names_the_change(
        self, whole: Execution
    ) -> None:
        published = PLAN.settings.generation.completions
        generation = published.model_copy(update={"temperature": 0.9})
        stage = PLAN.settings.generation.model_copy(update={"completions": generation})
        settings = PLAN.settings.model_copy(update={"generation": stage})
        changed = Execution(
            replace(PLAN, settings=settings), journal=MemoryJournal(list(whole.journal.entries()))
        )
        with pytest.raises(ChangedRequestError, match=r"generate/0 .*temperature \(0\.7 -> 0\.9\)"):
            changed.run()
        assert changed.teacher.asked == []

    def test_another_run_seed_is_named_too(self, whole: Execution) -> None:
        journal = MemoryJournal(list(whole.journal.entries()))
        with pytest.raises(ChangedRequestError, match=r"changed: .*seed"):
            Execution(replace(PLAN, run_seed=4), journal=journal).run()


class TestStop:
    def test_what_is_in_flight_gets_its_grace_and_is_journaled(self) -> None:
        execution = Execution(PLAN, flags={"teacher__concurrency": 4})
        at_stop: list[Address] = []

        def on_change(running: Execution) -> None:
            if len(running.journal) == 6 and not at_stop:
                at_stop.extend(set(running.teacher.asked) - set(running.journal.by_address))
                running.driver.stop("SIGTERM")

        end = execution.run(on_change)
        assert (end.state, end.reason) == ("interrupted", "SIGTERM")
        assert at_stop
        assert set(at_stop) <= set(execution.journal.by_address)
        assert set(execution.teacher.asked) == set(execution.journal.by_address)

    def test_what_waits_for_a_teacher_that_is_away_gets_no_grace(self) -> None:
        asked_at_stop: list[int] = []

        def answer(request: TeacherRequest) -> Completion:
            if len(execution.teacher.asked) > 30:
                asked_at_stop.append(len(execution.teacher.asked))
                execution.driver.stop("SIGTERM")
            raise TransientTeacherError("503 away")

        execution = Execution(PLAN, MemoryTeacher(answer), flags={"run__grace_s": 1e9})
        assert execution.run().reason == "SIGTERM"
        assert len(execution.teacher.asked) == asked_at_stop[0]

    @pytest.mark.parametrize("stops", [1, 2])
    def test_no_grace_left_or_a_second_stop_ends_it_now(self, stops: int) -> None:
        never = asyncio.Event()

        async def hold(request: TeacherRequest) -> None:
            if request.address.stage == "classify":
                await never.wait()

        def on_change(running: Execution) -> None:
            for _ in range(stops):
                running.driver.stop("SIGTERM")

        grace = 0.01 if stops == 1 else 1e9
        execution = Execution(
            PLAN, MemoryTeacher(hold=hold), flags={"run__grace_s": grace, "teacher__concurrency": 4}
        )
        assert execution.run(on_change).reason == "SIGTERM"

    def test_a_stop_after_the_last_answer_needed_is_a_finished_run(self) -> None:
        execution = Execution(PLAN, flags={"teacher__concurrency": 64})

        def on_change(running: Execution) -> None:
            if running.machine.finished():
                running.driver.stop("SIGTERM")

        assert execution.run(on_change).state == "completed"
        rows = [row for batch in execution.sink.batches for row in batch.completions]
        assert len(rows) == len(execution.journal)


class TestCaps:
    def test_no_request_is_sent_that_does_not_fit(self, whole: Execution) -> None:
        spent = whole.driver.ledger.spent_tokens
        for share in (0.1, 0.3, 0.6):
            cap = int(spent * share)
            execution = Execution(PLAN, flags={"caps__tokens": cap, "teacher__concurrency": 16})
            end = execution.run()
            assert (end.state, end.reason) == ("interrupted", "cap")
            assert execution.driver.ledger.spent_tokens <= cap
            # Everything that was sent was answered, so nothing was thrown away either.
            assert set(execution.teacher.asked) == set(execution.journal.by_address)

    def test_a_higher_cap_goes_on_to_the_same_rows(self, whole: Execution) -> None:
        capped = Execution(PLAN, flags={"caps__tokens": 20_000})
        assert capped.run().reason == "cap"
        entries = list(capped.journal.entries())
        resumed = Execution(PLAN, journal=MemoryJournal(entries))
        assert resumed.run().state == "completed"
        assert resumed.sink.accepted() == whole.sink.accepted()
        assert not {entry.address for entry in entries} & set(resumed.teacher.asked)

    def test_what_was_spent_before_counts_on_resume(self) -> None:
        flags = {"caps__tokens": 20_000}
        capped = Execution(PLAN, flags=flags)
        capped.run()
        resumed = Execution(PLAN, journal=capped.journal, flags=flags)
        end = resumed.run()
        assert (end.reason, resumed.teacher.asked) == ("cap", [])
        assert resumed.driver.ledger.spent_tokens == capped.driver.ledger.spent_tokens

    def test_an_answer_without_usage_keeps_its_reservation_over_a_resume(self) -> None:
        def answer(request: TeacherRequest) -> Completion:
            return replace(scripted(request), usage=None)

        flags = {"caps__tokens": 20_000}
        capped = Execution(PLAN, MemoryTeacher(answer), flags=flags)
        assert capped.run().reason == "cap"
        reserved = sum(entry.reserved_tokens for entry in capped.journal.entries())
        assert 0 < reserved <= 20_000
        assert capped.driver.ledger.spent_tokens == reserved
        resumed = Execution(PLAN, MemoryTeacher(answer), capped.journal, flags=flags)
        assert resumed.run().reason == "cap"
        assert resumed.driver.ledger.spent_tokens == reserved

    def test_downstream_goes_first_then_the_lowest_position(self) -> None:
        execution = Execution(PLAN, flags={"teacher__concurrency": 1})
        execution.run()
        asked = execution.teacher.asked
        waiting_downstream: set[Address] = set()
        for address in asked:
            if address.stage == "generate":
                assert not waiting_downstream
            waiting_downstream.discard(address)
            if address.stage == "classify":
                waiting_downstream.add(Address("instances", address.position))
        generations = [at.position for at in asked if at.stage == "generate"]
        assert generations == sorted(generations)


class TestGiveUp:
    @staticmethod
    def stuck() -> Execution:
        address = stuck_address()

        def answer(request: TeacherRequest) -> Completion:
            if request.address == address:
                raise TransientTeacherError("500 no")
            return scripted(request)

        flags = {"teacher__stuck_after": 3, "teacher__pause_after": 99}
        execution = Execution(PLAN, MemoryTeacher(answer), flags=flags)
        end = execution.run()
        assert (end.state, end.reason) == ("interrupted", f"stuck at {stuck_address()}")
        assert end.error is not None
        assert end.error.exit_code == 75
        return execution

    def test_an_address_given_up_is_journaled_and_the_run_completes(self) -> None:
        stuck = self.stuck()
        check_give_up([stuck_address()], SelfInstructMachine(PLAN), stuck.journal)
        resumed = Execution(PLAN, journal=stuck.journal, give_up=frozenset({stuck_address()}))
        assert resumed.run().state == "completed"
        assert stuck_address() not in resumed.teacher.asked
        entry = resumed.journal.by_address[stuck_address()]
        assert isinstance(entry.outcome, Refusal)
        assert entry.outcome.kind == "given_up"
        reasons = {
            row.position: row.reason for batch in resumed.sink.batches for row in batch.instructions
        }
        assert reasons[stuck_address().position] == "classification_given_up"

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("generate/0", r"generate/0: it is in the journal already \(an answer\)"),
            ("generate/999", r"generate/999: the run is not waiting .*waits for: .*classify/"),
            ("translate/0", "translate/0: the run is not waiting"),
        ],
    )
    def test_an_address_that_is_not_waiting_is_refused(self, address: str, message: str) -> None:
        stuck = self.stuck()
        with pytest.raises(GiveUpError, match=message) as caught:
            check_give_up([Address.parse(address)], SelfInstructMachine(PLAN), stuck.journal)
        assert caught.value.exit_code == 2

    def test_what_is_waited_for_is_what_a_resume_asks_first(self) -> None:
        stuck = self.stuck()
        open_addresses = waiting(SelfInstructMachine(PLAN), stuck.journal)
        assert stuck_address() in open_addresses
        assert not set(open_addresses) & set(stuck.journal.by_address)


class TestRefusals:
    @pytest.mark.parametrize("stage", ["generate", "classify", "instances"])
    def test_a_refusal_of_one_request_is_journaled_and_the_run_goes_on(self, stage: str) -> None:
        def answer(request: TeacherRequest) -> Completion | Refusal:
            if request.address.stage == stage and sum(request.address.position) % 3 == 1:
                return Refusal("context_length", "too long")
            return scripted(request)

        execution = Execution(make_plan(20), MemoryTeacher(answer))
        assert execution.run().state == "completed"
        refused: list[JournalEntry] = [
            entry for entry in execution.journal.entries() if isinstance(entry.outcome, Refusal)
        ]
        assert refused
        rows = {
            (row.stage, row.position): row for batch in execution.sink.batches
            for row in batch.completions
        }  # fmt: skip
        assert {rows[entry.address.stage, entry.address.position].reason for entry in refused} == {
            "context_length"
        }

    @pytest.mark.parametrize(("after", "code"), [(0, 2), (5, 75)])
    def test_a_final_error_journals_nothing_and_its_code_says_whether_it_ever_worked(
        self, after: int, code: int
    ) -> None:
        answered: list[Address] = []

        def answer(request: TeacherRequest) -> Completion:
            generated = [at for at in answered if at.stage == "generate"]
            if request.address.stage == "generate" and len(generated) >= after:
                raise FinalTeacherError("the teacher answered 401: no")
            answered.append(request.address)
            return scripted(request)

        flags = {"teacher__concurrency": 1}
        execution = Execution(make_plan(40), MemoryTeacher(answer), flags=flags)
        end = execution.run()
        assert end.state == "interrupted"
        assert end.error is not None
        assert end.error.exit_code == code
        assert set(execution.journal.by_address) == set(answered)

    def test_a_machine_that_fails_is_not_swallowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(SelfInstructMachine, "_apply_classification", fail)
        with pytest.raises(RuntimeError, match="a bug"):
            Execution(PLAN).run()


def test_a_sink_sees_each_stream_in_order_whatever_the_arrival() -> None:
    sink = MemorySink()
    Execution(PLAN, MemoryTeacher(order=3), sink=sink, flags={"teacher__concurrency": 64}).run()
    assert {batch.stream for batch in sink.batches} >= {"generate", "settle"}
