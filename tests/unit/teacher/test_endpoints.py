"""Several endpoints of one model: who is asked, who is put aside, who is tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pipeline.records import Address, Completion
from pipeline.run.requests import TeacherRequest
from pipeline.teacher.endpoints import Endpoints
from pipeline.teacher.failures import FinalTeacherError, TransientTeacherError

REQUEST = TeacherRequest(Address("generate", (0,)), "Come up with tasks.", {"model": "m"})
ANSWER = Completion("answer", "stop", None)


class Client:
    """An endpoint that answers, fails, or waits, as it is told."""

    def __init__(self, name: str) -> None:
        self.base_url = f"http://{name}/v1"
        self.asked = 0
        self.error: Exception | None = None
        self.hold: asyncio.Event | None = None

    async def complete(self, request: TeacherRequest) -> Completion:
        assert request is REQUEST
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        return ANSWER


class Bench:
    """Endpoints a, b and c, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.a, self.b, self.c = self.clients = [Client(name) for name in "abc"]
        self.endpoints = Endpoints(
            self.clients, aside_after=3, probe_interval_s=5.0, clock=lambda: self.now
        )

    def ask(self, times: int = 1) -> list[int]:
        """How often each was asked for so many requests, one after the other."""
        before = [client.asked for client in self.clients]
        for _ in range(times):
            assert asyncio.run(self.endpoints.complete(REQUEST)) is ANSWER
        return [client.asked - old for client, old in zip(self.clients, before, strict=True)]

    def put_aside(self, client: Client) -> None:
        client.error = TransientTeacherError("reset")
        while not any(client.base_url in text for text in self.endpoints.warnings()):
            self.ask()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_equally_busy_endpoints_are_asked_in_turn(bench: Bench) -> None:
    assert bench.ask(9) == [3, 3, 3]


def test_the_one_with_the_fewest_outstanding_is_asked(bench: Bench) -> None:
    async def run() -> None:
        bench.a.hold = bench.b.hold = asyncio.Event()
        waiting = [asyncio.create_task(bench.endpoints.complete(REQUEST)) for _ in range(6)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # a and b hold one each from then on; c answers what it is given.
        assert [client.asked for client in bench.clients] == [1, 1, 4]
        bench.a.hold.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())
    assert bench.ask(2) == [1, 1, 0]


def test_a_request_that_fails_at_one_goes_to_another_at_once(bench: Bench) -> None:
    bench.a.error = TransientTeacherError("reset")
    assert bench.ask() == [1, 1, 0]
    assert bench.endpoints.warnings() == []


def test_three_failures_in_a_row_put_an_endpoint_aside(bench: Bench) -> None:
    bench.a.error = TransientTeacherError("ConnectError: refused")
    assert bench.ask(30)[0] == 3
    (warning,) = bench.endpoints.warnings()
    assert "http://a/v1" in warning
    assert "ConnectError: refused" in warning


def test_failures_with_answers_between_them_do_not(bench: Bench) -> None:
    for _ in range(5):
        bench.a.error = TransientTeacherError("reset")
        bench.ask(3)
        bench.a.error = None
        bench.ask(3)
    assert bench.endpoints.warnings() == []


def test_one_that_was_put_aside_is_tried_after_a_while_and_comes_back(bench: Bench) -> None:
    bench.put_aside(bench.a)
    assert bench.ask(10)[0] == 0
    bench.now += 5.0
    assert bench.ask(10)[0] == 1  # it failed again
    bench.now += 4.9
    assert bench.ask(10)[0] == 0
    bench.a.error = None
    bench.now += 0.1
    assert bench.ask(12)[0] > 1
    assert bench.endpoints.warnings() == []


def test_one_request_at_a_time_tries_it(bench: Bench) -> None:
    bench.put_aside(bench.a)
    bench.now += 5.0
    before = bench.a.asked

    async def run() -> None:
        bench.a.hold = asyncio.Event()
        waiting = [asyncio.create_task(bench.endpoints.complete(REQUEST)) for _ in range(8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bench.a.asked == before + 1
        bench.a.hold.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_what_an_endpoint_asks_for_decides_when_it_is_tried(bench: Bench) -> None:
    bench.a.error = TransientTeacherError("429", retry_after_s=60.0)
    assert bench.ask(10)[0] == 1
    bench.now += 59.0
    assert bench.ask(10)[0] == 0
    bench.now += 1.0
    assert bench.ask(10)[0] == 1


def test_when_all_fail_the_run_is_told_and_the_first_to_be_back_is_found(bench: Bench) -> None:
    for client, wait in zip(bench.clients, (30.0, 10.0, 20.0), strict=True):
        client.error = TransientTeacherError(f"429 of {client.base_url}", retry_after_s=wait)
    with pytest.raises(TransientTeacherError, match="http://b/v1") as caught:
        asyncio.run(bench.endpoints.complete(REQUEST))
    assert caught.value.retry_after_s == 10.0
    assert [client.asked for client in bench.clients] == [1, 1, 1]
    bench.c.error = None
    assert bench.ask()[2] == 1
    assert bench.ask(5) == [0, 0, 5]


@pytest.mark.parametrize("others", [lambda bench: None, lambda bench: bench.put_aside(bench.c)])
def test_a_final_refusal_names_the_endpoint(bench: Bench, others: Callable[[Bench], None]) -> None:
    others(bench)
    for client in (bench.a, bench.b):
        client.error = FinalTeacherError("the teacher answered 401: no")
    with pytest.raises(FinalTeacherError, match=r"http://[ab]/v1: the teacher answered 401"):
        asyncio.run(bench.endpoints.complete(REQUEST))
    assert bench.a.asked + bench.b.asked >= 1
