"""The sender: retries, the pause of an outage, the stuck address, against a teacher in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pipeline.records import Address, Completion, Refusal
from pipeline.run.requests import TeacherRequest
from pipeline.run.sender import AbandonedError, OutageError, Sender, StuckError
from pipeline.sections import TeacherSettings
from pipeline.teacher.failures import FinalTeacherError, TransientTeacherError

SETTINGS = {"retry_base_s": 0.0001, "retry_max_s": 0.001, "probe_interval_s": 0.001}


def request(number: int) -> TeacherRequest:
    return TeacherRequest(Address("generate", (number,)), f"prompt {number}", {"max_tokens": 5})


class Teacher:
    """Fails an address as often as told (for ever: -1), then answers it."""

    def __init__(self, failures: dict[int, int] | None = None) -> None:
        self.failures = failures or {}
        self.asked: list[int] = []
        self.retry_after_s: float | None = None
        self.in_flight = self.most_in_flight = 0

    async def complete(self, asked: TeacherRequest) -> Completion | Refusal:
        (number,) = asked.address.position
        self.asked.append(number)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        if self.failures.get(number, 0):
            self.failures[number] -= 1
            raise TransientTeacherError("503 busy", self.retry_after_s)
        return Completion(f"answer {number}", "stop", None)


def run(
    scenario: Callable[[Sender], Coroutine[Any, Any, Any]], teacher: Any, **settings: Any
) -> tuple[Any, list[str | None], Sender]:
    """Run a scenario with a sender; its result, the pauses, the sender."""
    pauses: list[str | None] = []
    sender = Sender(teacher, TeacherSettings(**{**SETTINGS, **settings}), pauses.append)
    return asyncio.run(scenario(sender)), pauses, sender


async def ask_all(sender: Sender, numbers: range) -> list[Any]:
    outcomes = await asyncio.gather(
        *(sender.ask(request(number)) for number in numbers), return_exceptions=True
    )
    return [item if isinstance(item, BaseException) else item[0] for item in outcomes]


def test_a_failure_is_sent_again_until_it_is_answered() -> None:
    teacher = Teacher({0: 4})
    outcomes, pauses, sender = run(lambda s: ask_all(s, range(1)), teacher)
    assert outcomes == [Completion("answer 0", "stop", None)]
    assert teacher.asked == [0] * 5
    assert (sender.retries, pauses) == (4, [])


def test_retry_after_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Teacher({0: 1})
    teacher.retry_after_s = 7.0
    waits: list[float] = []
    kept = asyncio.sleep

    async def sleep(seconds: float, result: object = None) -> None:
        waits.append(seconds)
        await kept(0)

    monkeypatch.setattr("pipeline.run.sender.asyncio.sleep", sleep)
    run(lambda s: ask_all(s, range(1)), teacher)
    assert 7.0 <= max(waits) <= 7.1


def test_a_days_wait_ends_as_an_outage_and_not_in_a_day() -> None:
    teacher = Teacher(dict.fromkeys(range(3), -1))
    teacher.retry_after_s = 86_400.0
    outcomes, pauses, _ = run(
        lambda s: ask_all(s, range(3)), teacher, pause_after=4, outage_limit_s=0.05
    )
    assert all(isinstance(item, OutageError) for item in outcomes)
    assert len(pauses) == 1


def test_a_paused_run_waits_as_long_as_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Teacher({0: 3})
    teacher.retry_after_s = 7.0
    waits: list[float] = []
    kept = asyncio.sleep

    async def sleep(seconds: float, result: object = None) -> None:
        waits.append(seconds)
        await kept(0)

    monkeypatch.setattr("pipeline.run.sender.asyncio.sleep", sleep)
    _, pauses, _ = run(lambda s: ask_all(s, range(1)), teacher, pause_after=2)
    assert len(pauses) == 2
    assert sum(6.9 <= wait <= 7.1 for wait in waits) == 3


def test_a_final_error_is_not_sent_again() -> None:
    class Refusing:
        asked = 0

        async def complete(self, asked: TeacherRequest) -> Completion:
            self.asked += 1
            raise FinalTeacherError("401")

    teacher = Refusing()
    (error,), _, _ = run(lambda s: ask_all(s, range(1)), teacher)
    assert isinstance(error, FinalTeacherError)
    assert teacher.asked == 1


class TestPause:
    def test_failures_in_a_row_pause_and_one_at_a_time_probes(self) -> None:
        class DownForThirty(Teacher):
            async def complete(self, asked: TeacherRequest) -> Completion | Refusal:
                is_down = len(self.asked) < 30
                self.failures[asked.address.position[0]] = int(is_down)
                return await super().complete(asked)

        teacher = DownForThirty()
        outcomes, pauses, _ = run(lambda s: ask_all(s, range(8)), teacher, pause_after=4)
        assert all(isinstance(item, Completion) for item in outcomes)
        assert len(pauses) == 2
        assert pauses[0] is not None
        assert "503 busy" in pauses[0]
        assert pauses[1] is None
        assert set(teacher.asked[14:30]) == set(range(8))  # every address gets its turn

    def test_while_paused_one_request_is_out_at_a_time(self) -> None:
        class Counting(Teacher):
            async def complete(self, asked: TeacherRequest) -> Completion | Refusal:
                if len(self.asked) == 16:
                    self.most_in_flight = self.in_flight
                return await super().complete(asked)

        probing = Counting(dict.fromkeys(range(16), -1))
        run(lambda s: ask_all(s, range(16)), probing, pause_after=4, outage_limit_s=0.05)
        assert probing.most_in_flight == 1

    def test_when_the_teacher_is_back_all_who_waited_ask_at_once(self) -> None:
        class DownForThirty(Teacher):
            async def complete(self, asked: TeacherRequest) -> Completion | Refusal:
                if len(self.asked) < 30:
                    self.asked.append(asked.address.position[0])
                    raise TransientTeacherError("503 away")
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                await asyncio.sleep(0.01)
                self.in_flight -= 1
                return Completion("answer", "stop", None)

        teacher = DownForThirty()
        _, pauses, _ = run(
            lambda s: ask_all(s, range(16)), teacher, concurrency=16, adapt_concurrency=False
        )
        assert pauses[-1] is None
        assert teacher.most_in_flight == 15  # all but the one that found it back

    def test_the_wait_for_the_teacher_is_no_latency(self) -> None:
        teacher = Teacher({0: 3})
        (_, latency_s), pauses, _ = run(
            lambda s: s.ask(request(0)), teacher, pause_after=1, probe_interval_s=0.2
        )
        assert pauses[-1] is None
        assert latency_s < 0.1

    def test_an_outage_that_lasts_too_long_ends_every_request(self) -> None:
        teacher = Teacher(dict.fromkeys(range(6), -1))
        outcomes, pauses, _ = run(
            lambda s: ask_all(s, range(6)), teacher, pause_after=3, outage_limit_s=0.02
        )
        assert all(isinstance(item, OutageError) for item in outcomes)
        assert pauses[0] is not None
        assert None not in pauses

    def test_scattered_failures_do_not_pause(self) -> None:
        teacher = Teacher(dict.fromkeys(range(0, 20, 5), 3))
        _, pauses, _ = run(lambda s: ask_all(s, range(20)), teacher, pause_after=30)
        assert pauses == []


class TestStuck:
    def test_one_address_that_fails_while_others_are_answered_is_stuck(self) -> None:
        async def scenario(sender: Sender) -> StuckError:
            async def others() -> None:
                for number in range(1, 400):
                    await sender.ask(request(number))

            background = asyncio.create_task(others())
            with pytest.raises(StuckError, match=r"stuck at generate/0: it failed 20 times") as hit:
                await sender.ask(request(0))
            background.cancel()
            return hit.value

        teacher = Teacher({0: -1})
        error, _, _ = run(scenario, teacher)
        assert error.exit_code == 75
        assert teacher.asked.count(0) == 20
        assert "--give-up generate/0" in str(error)

    def test_an_address_that_fails_with_all_others_is_an_outage(self) -> None:
        teacher = Teacher({0: -1})
        (error,), _, _ = run(
            lambda s: ask_all(s, range(1)), teacher, stuck_after=3, outage_limit_s=0.02
        )
        assert isinstance(error, OutageError)
        assert teacher.asked.count(0) > 3

    def test_the_last_one_left_is_stuck_and_waits_for_no_outage(self) -> None:
        async def scenario(sender: Sender) -> None:
            asking = asyncio.create_task(sender.ask(request(0)))
            while not teacher.asked:
                await asyncio.sleep(0)
            await sender.ask(request(1))
            with pytest.raises(StuckError, match="it failed 20 times"):
                await asyncio.wait_for(asking, 30.0)

        teacher = Teacher({0: -1})
        _, pauses, _ = run(scenario, teacher)
        assert pauses  # nobody else was asked any more
        assert teacher.asked.count(0) == 20

    def test_failures_in_an_outage_are_no_ones_own(self) -> None:
        class GoingDown(Teacher):
            async def complete(self, asked: TeacherRequest) -> Completion | Refusal:
                if asked.address.position[0] == 1:  # answered after the first failure, as the last
                    while 0 not in self.asked:
                        await asyncio.sleep(0)
                    return Completion("answer", "stop", None)
                self.asked.append(asked.address.position[0])
                raise TransientTeacherError("503 away")

        teacher = GoingDown()
        outcomes, _, _ = run(
            lambda s: ask_all(s, range(4)), teacher, stuck_after=10, outage_limit_s=0.2
        )
        assert isinstance(outcomes[1], Completion)
        assert all(isinstance(outcomes[number], OutageError) for number in (0, 2, 3))
        assert teacher.asked.count(0) > 10


class TestSendNoMore:
    def test_what_failed_is_given_back_and_nothing_new_goes_out(self) -> None:
        async def scenario(sender: Sender) -> list[Any]:
            asking = asyncio.create_task(ask_all(sender, range(2)))
            while len(teacher.asked) < 2:
                await asyncio.sleep(0)
            sender.send_no_more()
            return [*await asking, *await ask_all(sender, range(2, 3))]

        teacher = Teacher({0: -1})
        (failed, answered, new), _, _ = run(scenario, teacher)
        assert isinstance(failed, AbandonedError)
        assert isinstance(answered, Completion)
        assert isinstance(new, AbandonedError)
        assert teacher.asked == [0, 1]

    def test_who_is_to_wait_for_long_does_not_when_the_run_has_what_it_needs(self) -> None:
        async def scenario(sender: Sender) -> list[Any]:
            asking = asyncio.create_task(ask_all(sender, range(2)))
            while sender.retries < 2:
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            assert not asking.done()
            sender.send_no_more()
            return await asyncio.wait_for(asking, 30)

        teacher = Teacher(dict.fromkeys(range(2), -1))
        teacher.retry_after_s = 3000.0
        outcomes, _, _ = run(scenario, teacher)
        assert all(isinstance(item, AbandonedError) for item in outcomes)

    def test_a_paused_run_does_not_wait_for_the_teacher(self) -> None:
        async def scenario(sender: Sender) -> list[Any]:
            asking = asyncio.create_task(ask_all(sender, range(4)))
            while not sender._paused_since:
                await asyncio.sleep(0)
            sender.send_no_more()
            return await asking

        teacher = Teacher(dict.fromkeys(range(4), -1))
        outcomes, _, _ = run(scenario, teacher, pause_after=2)
        assert all(isinstance(item, AbandonedError) for item in outcomes)
