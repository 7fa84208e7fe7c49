"""A sender for each teacher: one that is away pauses its own stages, and nobody is stuck for it."""

from __future__ import annotations

import asyncio

from pipeline.config import resolve
from pipeline.records import Address, Completion
from pipeline.run.requests import TeacherRequest
from pipeline.run.senders import StageSenders
from pipeline.teacher.failures import TransientTeacherError

QUICK = {
    "teacher.retry_base_s": 0.0001, "teacher.retry_max_s": 0.001, "teacher.stuck_after": 4,
    "teacher.probe_interval_s": 0.001, "teacher.pause_after": 3,
    "teacher.adapt_concurrency": False,
}  # fmt: skip


class Teacher:
    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.asked: list[str] = []

    async def complete(self, request: TeacherRequest) -> Completion:
        self.asked.append(request.address.stage)
        await asyncio.sleep(0)
        if len(self.asked) <= self.failures:
            raise TransientTeacherError("away")
        return Completion("yes", "stop", None)


def request(stage: str) -> TeacherRequest:
    return TeacherRequest(Address(stage, (0,)), "prompt", {"model": "m"})


def senders(default: Teacher, cheap: Teacher, pauses: list[str | None]) -> StageSenders:
    settings = resolve(QUICK, flags_only=True).settings.teacher
    return StageSenders(default, {"classify": cheap, "judge": cheap}, settings, pauses.append)


def test_each_stage_asks_its_own_teacher() -> None:
    default, cheap = Teacher(), Teacher()

    async def run() -> None:
        sending = senders(default, cheap, [])
        for stage in ("generate", "classify", "instances", "judge"):
            await sending.ask(request(stage))

    asyncio.run(run())
    assert default.asked == ["generate", "instances"]
    assert cheap.asked == ["classify", "judge"]


def test_a_teacher_that_is_away_while_others_answer_is_waited_for() -> None:
    default, cheap = Teacher(), Teacher(failures=30)
    pauses: list[str | None] = []

    async def run() -> StageSenders:
        sending = senders(default, cheap, pauses)
        waiting = asyncio.create_task(sending.ask(request("classify")))
        for _ in range(40):
            await sending.ask(request("generate"))
        outcome, _ = await asyncio.wait_for(waiting, 30)
        assert isinstance(outcome, Completion)
        return sending

    # With one count for all, its address would have been stuck after four failures.
    assert asyncio.run(run()).retries == 30
    reason, back = pauses
    assert reason is not None
    assert "away" in reason
    assert "classify, judge" in reason
    assert back is None


def test_the_run_goes_on_when_the_last_that_paused_it_is_back() -> None:
    default, cheap = Teacher(failures=5), Teacher(failures=60)
    pauses: list[str | None] = []

    async def run() -> None:
        sending = senders(default, cheap, pauses)
        await asyncio.gather(sending.ask(request("generate")), sending.ask(request("classify")))

    asyncio.run(run())
    assert pauses[-1] is None
    assert pauses.count(None) == 1
    assert len(pauses) == 4  # one away, both away, one of them still away, none
