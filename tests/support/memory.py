"""A run without disk, network or processes: journal, sink and teacher in memory."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import resolve
from pipeline.records import Address, Batch, Completion, JournalEntry, Refusal, Usage
from pipeline.run.driver import Driver, RunEnd
from pipeline.run.ledger import Ledger
from pipeline.run.requests import TeacherRequest
from pipeline.run.sender import Sender
from pipeline.self_instruct.machine import SelfInstructMachine
from pipeline.self_instruct.manifest import build_manifest, plan_of
from pipeline.self_instruct.plan import SelfInstructPlan
from tests.support.scripted_teacher import answer

Outcome = Completion | Refusal


class MemoryJournal:
    """Entries in a dict, durable as soon as they are in it."""

    def __init__(self, entries: Sequence[JournalEntry] = ()) -> None:
        self.by_address = {entry.address: entry for entry in entries}

    def __len__(self) -> int:
        return len(self.by_address)

    def get(self, address: Address) -> JournalEntry | None:
        return self.by_address.get(address)

    async def append(self, entry: JournalEntry) -> None:
        await asyncio.sleep(0)
        assert entry.address not in self.by_address
        self.by_address[entry.address] = entry

    def entries(self) -> Iterator[JournalEntry]:
        return iter(list(self.by_address.values()))


class MemorySink:
    """Batches in a list; asserts that each stream comes in position order."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def write(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            earlier = [item.position for item in self.batches if item.stream == batch.stream]
            assert not earlier or earlier[-1] < batch.position
            self.batches.append(batch)

    def rows(self) -> str:
        """The last state of every instruction and instance, as one text to compare."""
        latest: dict[str, Any] = {}
        for batch in self.batches:
            for row in batch.instructions:
                latest[f"{row.position}"] = (row.text, row.state, row.reason, row.score)
            for item in batch.instances:
                latest[f"{item.position}#{item.index}"] = (item.input, item.output, item.state)
        return json.dumps(latest, sort_keys=True)

    def accepted(self) -> list[tuple[Any, ...]]:
        """Accepted instructions by address, each with its accepted instances."""
        return [
            (row.position, row.text, [item for item in batch.instances if item.state == "accepted"])
            for batch in self.batches
            for row in batch.instructions
            if row.state == "accepted"
        ]


def scripted(request: TeacherRequest, mode: str = "mixed") -> Completion:
    """What the scripted teacher answers."""
    body = request.body()
    text, finish_reason = answer(body, mode)
    usage = Usage(len(request.prompt_text()) // 4, len(text) // 4 + 1)
    return Completion(text, finish_reason, usage, "scripted")


@dataclass
class MemoryTeacher:
    """Answers after a random number of turns of the event loop; `answer` may raise instead."""

    answer: Callable[[TeacherRequest], Outcome] = scripted
    order: int = 0
    hold: Callable[[TeacherRequest], Awaitable[None]] | None = None
    asked: list[Address] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def complete(self, request: TeacherRequest) -> Outcome:
        self.asked.append(request.address)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        turns = random.Random(f"{self.order}/{request.address}").randrange(8)
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            if self.hold is not None:
                await self.hold(request)
            return self.answer(request)
        finally:
            self.in_flight -= 1


QUICK = {
    "teacher.retry_base_s": 0.0001,
    "teacher.retry_max_s": 0.001,
    "teacher.probe_interval_s": 0.001,
    "run.grace_s": 5.0,
}


def make_plan(target: int = 10, **flags: Any) -> SelfInstructPlan:
    """The plan of a run on the bundled seeds; `flags` are settings with `__` for the dot."""
    values = {"run.target": target, "run.seed": 3, **_dotted(flags)}
    settings = resolve(values, flags_only=True).settings
    return plan_of(build_manifest("memory", settings, "scripted"), [])


@dataclass
class Execution:
    """One execution of a run in memory."""

    plan: SelfInstructPlan
    teacher: MemoryTeacher = field(default_factory=MemoryTeacher)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    sink: MemorySink = field(default_factory=MemorySink)
    flags: dict[str, Any] = field(default_factory=dict)
    give_up: frozenset[Address] = frozenset()
    pauses: list[str | None] = field(default_factory=list)
    machine: SelfInstructMachine = field(init=False)
    driver: Driver = field(init=False)
    sender: Sender = field(init=False)

    def run(self, on_change: Callable[[Execution], None] = lambda execution: None) -> RunEnd:
        """Execute it to its end; `on_change` is called after each applied outcome."""
        return asyncio.run(self._run(on_change))

    async def _run(self, on_change: Callable[[Execution], None]) -> RunEnd:
        settings = resolve({**QUICK, **_dotted(self.flags)}, flags_only=True).settings
        self.machine = SelfInstructMachine(self.plan)
        self.sender = Sender(self.teacher, settings.teacher, self.pauses.append)
        self.driver = Driver(
            self.machine, self.journal, self.sender, Ledger(settings.caps, settings.prices),
            self.sink, grace_s=settings.run.grace_s, give_up=self.give_up,
            on_change=lambda: on_change(self),
        )  # fmt: skip
        return await self.driver.run()


def _dotted(flags: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in flags.items()}
