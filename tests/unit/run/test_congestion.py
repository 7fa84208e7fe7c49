"""The limit on requests in flight: when it falls, when it rises again, who waits for it."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import ClassVar

import pytest

from pipeline.records import Address, Completion, Refusal
from pipeline.run.congestion import Congestion
from pipeline.run.requests import TeacherRequest
from pipeline.run.sender import Sender
from pipeline.sections import TeacherSettings
from pipeline.teacher.failures import TransientTeacherError


def play(congestion: Congestion, outcomes: str) -> None:
    """Send as many as allowed at once, with these outcomes in turn: `.` answered, `o` too much,
    `f` failed in another way."""
    while outcomes:
        now, outcomes = outcomes[: congestion.limit], outcomes[congestion.limit :]
        tickets = [congestion.sent() for _ in now]
        for ticket, outcome in zip(tickets, now, strict=True):
            if outcome == ".":
                congestion.answered()
            else:
                congestion.failed(ticket, overload=outcome == "o")


class TestDecrease:
    def test_one_round_trip_of_failures_halves_it_once(self) -> None:
        congestion = Congestion(64)
        play(congestion, "o" * 64)
        assert congestion.limit == 32
        play(congestion, "o" * 32)
        assert congestion.limit == 16

    def test_failures_sent_before_a_decrease_do_not_count_however_late_they_come(self) -> None:
        congestion = Congestion(64)
        tickets = [congestion.sent() for _ in range(64)]
        for ticket in tickets[:10]:
            congestion.failed(ticket, overload=True)
        assert congestion.limit == 32
        late = [congestion.sent() for _ in range(5)]
        for ticket in tickets[10:]:
            congestion.failed(ticket, overload=True)
        assert congestion.limit == 32
        for ticket in late:
            congestion.failed(ticket, overload=True)
        assert congestion.limit == 16

    @pytest.mark.parametrize(("kind", "floor"), [("o", 3), ("f", 16)])
    def test_it_ends_at_the_least_and_higher_where_nobody_said_too_much(
        self, kind: str, floor: int
    ) -> None:
        congestion = Congestion(64, 3)
        play(congestion, kind * 2000)
        assert congestion.limit == floor

    def test_a_lone_failure_in_twenty_is_noise(self) -> None:
        congestion = Congestion(64)
        play(congestion, ("." * 19 + "o") * 200)
        assert congestion.limit == 64

    @pytest.mark.parametrize("maximum", [4, 64, 1000])
    def test_one_in_a_hundred_at_random_never_lowers_it(self, maximum: int) -> None:
        draws = random.Random(7)
        congestion = Congestion(maximum)
        lowest = maximum
        for _ in range(20_000 // 40):
            play(congestion, "".join("o" if draws.random() < 0.01 else "." for _ in range(40)))
            lowest = min(lowest, congestion.limit)
        assert lowest == maximum

    def test_one_in_five_does(self) -> None:
        congestion = Congestion(64)
        play(congestion, "....o" * 40)
        assert congestion.limit < 64

    def test_not_where_it_is_not_to_adapt(self) -> None:
        congestion = Congestion(64, adapt=False)
        play(congestion, "o" * 500)
        assert congestion.limit == 64

    def test_a_least_above_the_most_is_the_most(self) -> None:
        congestion = Congestion(4, 50)
        play(congestion, "o" * 100)
        assert congestion.limit == 4


class TestIncrease:
    @pytest.mark.parametrize("maximum", [16, 64, 1000])
    def test_from_half_to_all_of_it_in_equal_steps(self, maximum: int) -> None:
        congestion = Congestion(maximum)
        play(congestion, "o" * maximum)
        seen = [congestion.limit]
        while congestion.limit < maximum and len(seen) < 30:
            play(congestion, "." * congestion.limit)
            seen.append(congestion.limit)
        assert seen[0] == maximum // 2
        steps = [after - before for before, after in itertools.pairwise(seen)]
        assert 8 <= len(steps) <= 10
        assert max(steps) <= maximum / 16 + 1
        assert congestion.limit == maximum

    def test_a_teacher_with_fewer_slots_is_met_near_them(self) -> None:
        congestion = Congestion(64)
        seen = []
        for _ in range(300):
            out = [congestion.sent() for _ in range(congestion.limit)]
            for place, ticket in enumerate(out):
                if place < 20:
                    congestion.answered()
                else:
                    congestion.failed(ticket, overload=True)
            seen.append(congestion.limit)
        settled = seen[50:]
        assert min(settled) >= 10
        assert max(settled) <= 32
        assert 14 <= sum(settled) / len(settled) <= 26


class LimitedTeacher:
    """Answers `slots` at once and turns the others away, as a gateway does."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.in_flight = 0
        self.most: list[int] = []

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        self.in_flight += 1
        self.most.append(self.in_flight)
        try:
            if self.in_flight > self.slots:
                raise TransientTeacherError("429 too many", overload=True)
            await asyncio.sleep(0.002)
        finally:
            self.in_flight -= 1
        return Completion("yes", "stop", None)


class TestSending:
    SETTINGS: ClassVar = {
        "retry_base_s": 0.0001, "retry_max_s": 0.001, "probe_interval_s": 0.001,
        "concurrency": 64, "pause_after": 10_000, "stuck_after": 10_000,
    }  # fmt: skip

    def ask_all(self, teacher: LimitedTeacher, **settings: bool) -> Sender:
        sender = Sender(teacher, TeacherSettings(**{**self.SETTINGS, **settings}))

        async def everything() -> None:
            asked = (
                TeacherRequest(Address("generate", (g,)), f"{g}", {"max_tokens": 5})
                for g in range(400)
            )
            await asyncio.gather(*(sender.ask(request) for request in asked))

        asyncio.run(everything())
        return sender

    def test_what_is_sent_again_keeps_to_the_limit_too(self) -> None:
        adapting, stubborn = LimitedTeacher(8), LimitedTeacher(8)
        retries = self.ask_all(adapting).retries
        assert len(adapting.most) == 400 + retries
        more = self.ask_all(stubborn, adapt_concurrency=False).retries
        assert retries < more / 4

    def test_never_more_at_once_than_the_most(self) -> None:
        teacher = LimitedTeacher(10_000)
        assert self.ask_all(teacher).retries == 0
        assert max(teacher.most) == 64

    def test_everybody_is_let_pass_when_nothing_is_to_be_sent_any_more(self) -> None:
        async def scenario() -> list[str]:
            congestion = Congestion(1)
            congestion.sent()
            passed: list[str] = []

            async def wait(name: str) -> None:
                await congestion.turn()
                passed.append(name)

            waiting = [asyncio.create_task(wait(name)) for name in "abc"]
            await asyncio.sleep(0.01)
            assert passed == []
            waiting[0].cancel()
            congestion.ended()
            await asyncio.sleep(0.01)
            assert passed[:1] == ["b"]
            congestion.let_everybody_pass()
            await asyncio.sleep(0.01)
            return passed

        assert asyncio.run(scenario()) == ["b", "c"]
