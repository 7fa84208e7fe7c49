"""Drives a machine: journaled addresses answer at once, the rest go to the teacher.

Resume is replay: there is no other checkpoint than the journal. What is sent when depends on the
clock; what is derived does not (DESIGN.md, core idea).
"""

from __future__ import annotations

import asyncio
import datetime
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from pipeline.errors import EvoloomError
from pipeline.records import Address, Batch, Completion, JournalEntry, Refusal
from pipeline.run.journal import Journal, verify
from pipeline.run.ledger import Ledger, Reservation
from pipeline.run.machine import Machine
from pipeline.run.requests import TeacherRequest
from pipeline.run.sender import AbandonedError, OutageError, StuckError
from pipeline.run.senders import Sending
from pipeline.teacher.failures import FinalTeacherError, TeacherGoneError, TeacherSetupError


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended: its state, the reason of an interruption, and what to raise, if anything."""

    state: Literal["completed", "ceiling", "interrupted"]
    reason: str | None = None
    error: EvoloomError | None = None


class Sink(Protocol):
    """Where derived batches go; `store.spool` keeps them on disk. They need not be durable: the
    journal can derive them again."""

    def write(self, batches: Sequence[Batch]) -> None:
        """Take batches, each stream's in position order."""
        ...


class Driver:
    """One execution of a run, from replay to its end or interruption."""

    def __init__(
        self,
        machine: Machine,
        journal: Journal,
        sender: Sending,
        ledger: Ledger,
        sink: Sink,
        *,
        grace_s: float,
        give_up: frozenset[Address] = frozenset(),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            grace_s: seconds for the requests in flight after `stop`.
            give_up: addresses whose outcome is to be a refusal, journaled when they come up.
            on_change: called after each applied outcome.
        """
        self._machine = machine
        self._journal = journal
        self._sender = sender
        self.ledger = ledger
        self._sink = sink
        self._grace_s = grace_s
        self._give_up = set(give_up)
        self._on_change = on_change
        self._rank = {stage: rank for rank, stage in enumerate(machine.stages)}
        self._queue: list[tuple[int, Address]] = []
        self._in_flight: dict[Address, asyncio.Task[None]] = {}
        self._asking: set[Address] = set()
        self._busy = 0
        self._wake = asyncio.Event()
        self._stopping: RunEnd | None = None
        self._unclaimed: set[Address] = set()
        self._crash: Exception | None = None
        self._refused_at: Address | None = None
        self._answered_stages: set[str] = set()
        self.replayed = 0

    @property
    def in_flight(self) -> dict[str, int]:
        """Requests in flight by stage."""
        counts: dict[str, int] = {}
        for address in self._in_flight:
            counts[address.stage] = counts.get(address.stage, 0) + 1
        return counts

    def stop(self, reason: str, error: EvoloomError | None = None) -> None:
        """Send nothing more; what is in flight gets its grace time. A second call cuts it short."""
        if self._stopping is not None and error is None:
            self._cancel_asking()
        self._sender.send_no_more()
        self._stopping = self._stopping or RunEnd("interrupted", reason, error)
        self._wake.set()

    async def run(self) -> RunEnd:
        """Replay, then ask until the machine is finished or something stops the run.

        Raises:
            ChangedRequestError: a journaled answer belongs to another request.
        """
        for entry in self._journal.entries():
            self._book(entry)
            self._unclaimed.add(entry.address)
        try:
            return await self._loop()
        finally:
            await self._abandon()

    def _cancel_asking(self) -> None:
        """Cut short what waits for the teacher; an answer that has arrived is still journaled."""
        for address in self._asking:
            self._in_flight[address].cancel()

    async def _abandon(self) -> None:
        self._cancel_asking()
        await asyncio.gather(*self._in_flight.values(), return_exceptions=True)

    async def _loop(self) -> RunEnd:
        while True:
            await self._advance()
            if self._stopping is not None:
                return await self._interrupted(self._stopping)
            finished = self._machine.finished()
            if finished is None:
                self._send()
                if not self._in_flight and self._stopping is None:
                    self._stop_idle()
                    continue
            elif not self._in_flight:
                return self._finish(finished)
            else:
                self._sender.send_no_more()
            if self._stopping is None:
                await self._wait()

    def _finish(self, state: Literal["completed", "ceiling"]) -> RunEnd:
        self._sink.write(self._machine.finish(self._unused()))
        return RunEnd(state)

    async def _advance(self) -> None:
        """Apply journaled outcomes, also of new addresses, until only unasked ones are left."""
        while addresses := self._machine.ready():
            for address in addresses:
                entry = self._journal.get(address)
                if entry is None and address in self._give_up:
                    entry = await self._journal_refusal(address)
                if entry is None:
                    heapq.heappush(self._queue, (self._rank[address.stage], address))
                    continue
                verify(entry, self._machine.request(address))
                self.replayed += 1
                self._apply(entry)
            await asyncio.sleep(0)  # a long replay must hear signals
        self._sink.write(self._machine.drain())

    def _apply(self, entry: JournalEntry) -> None:
        if isinstance(entry.outcome, Completion):
            self._answered_stages.add(entry.address.stage)
        self._unclaimed.discard(entry.address)
        self._machine.apply(entry)
        self._on_change()

    def _send(self) -> None:
        while self._queue and self._busy < self._sender.congestion.limit:
            address = self._queue[0][1]
            if not self._machine.may_send(address):
                return
            request = self._machine.request(address)
            reservation = self.ledger.price(
                request.estimated_prompt_tokens(), request.max_tokens(), request.model()
            )
            if not self.ledger.fits(reservation):
                if not self._in_flight:
                    self.stop("cap")
                return
            heapq.heappop(self._queue)
            self.ledger.reserve(reservation)
            self._machine.sent(address)
            self._busy += 1
            self._asking.add(address)
            task = asyncio.create_task(self._ask(request, reservation))
            self._in_flight[address] = task

    def _stop_idle(self) -> None:
        # Nothing in flight, nothing sendable, not finished: the machine and the gate disagree.
        if not (self._queue and self._machine.may_send(self._queue[0][1])):
            raise AssertionError("the run has nothing to send and is not finished")

    async def _ask(self, request: TeacherRequest, reservation: Reservation) -> None:
        address = request.address
        try:
            try:
                outcome, latency_s = await self._sender.ask(request)
            finally:
                # The slot is free for the next request while this answer goes to disk.
                self._asking.discard(address)
                self._busy -= 1
                self._wake.set()
            entry = self._entry(request, outcome, reservation.tokens, latency_s)
            await self._journal.append(entry)
            self._book(entry)
            self._apply(entry)
        except StuckError as exc:
            self.stop(f"stuck at {exc.address}", exc)
        except OutageError as exc:
            self.stop("outage", exc)
        except FinalTeacherError as exc:
            self._refused_at = self._refused_at or address
            self.stop(f"teacher refused: {exc}", exc)
        except (asyncio.CancelledError, AbandonedError):
            pass
        # The loop raises it again: an exception inside a task must not get lost.
        except Exception as exc:  # noqa: BLE001
            self._crash = exc
        finally:
            self.ledger.release(reservation)
            del self._in_flight[address]
            self._wake.set()

    def _refused_for_good(self, address: Address, exc: FinalTeacherError) -> EvoloomError:
        if address.stage in self._answered_stages:
            return TeacherGoneError(
                f"{exc} (at {address}, though it has answered this stage). When that is mended, "
                "`evoloom resume RUN` goes on where the run stopped"
            )
        return TeacherSetupError(
            f"{exc} (at {address}, none of its stage was answered); check teacher.base_url, "
            "teacher.model, teacher.api, the key and teacher.drop_parameters"
        )

    async def _wait(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        if self._crash is not None:
            raise self._crash

    async def _interrupted(self, end: RunEnd) -> RunEnd:
        if self._in_flight:
            await asyncio.wait(list(self._in_flight.values()), timeout=self._grace_s)
        await self._abandon()
        if self._crash is not None:
            raise self._crash
        await self._advance()
        # What stopped it came after the last answer that it needed: then it is simply done.
        finished = self._machine.finished()
        if finished is not None:
            return self._finish(finished)
        if self._refused_at is not None and isinstance(end.error, FinalTeacherError):
            # Whether it ever worked is known when the others in flight are back.
            return replace(end, error=self._refused_for_good(self._refused_at, end.error))
        return end

    def _entry(
        self,
        request: TeacherRequest,
        outcome: Completion | Refusal,
        reserved_tokens: int,
        latency_s: float,
    ) -> JournalEntry:
        return JournalEntry(
            request.address,
            request.request_hash(),
            request.prompt_hash(),
            request.parameters,
            outcome,
            reserved_tokens,
            round(latency_s, 4),
            datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            self._machine.context(request.address),
        )

    async def _journal_refusal(self, address: Address) -> JournalEntry:
        request = self._machine.request(address)
        refusal = Refusal("given_up", "given up by `evoloom resume --give-up`")
        entry = self._entry(request, refusal, 0, 0.0)
        await self._journal.append(entry)
        return entry

    def _book(self, entry: JournalEntry) -> None:
        stage = entry.address.stage
        if not isinstance(entry.outcome, Completion):
            self.ledger.refused(stage)
            return
        most = int(entry.parameters["max_tokens"])
        prompt_tokens = max(entry.reserved_tokens - most, 0)
        reservation = self.ledger.price(prompt_tokens, most, entry.parameters.get("model"))
        self.ledger.spend(stage, entry.outcome.usage, reservation)

    def _unused(self) -> list[JournalEntry]:
        if not self._unclaimed:
            return []
        return [item for item in self._journal.entries() if item.address in self._unclaimed]
