"""Sends one request until it is answered: retries, the pause of an outage, the stuck address.

A transport failure never becomes an outcome. The identical request is repeated, with jitter and
with what `Retry-After` asks; while many fail, fewer are sent at once; when failures come in a row
the run pauses and one request at a time probes the teacher until it is back (a half-open circuit
breaker), or the outage limit is reached.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from pipeline.errors import InterruptedRunError
from pipeline.records import Address, Completion, Refusal
from pipeline.run.congestion import Congestion
from pipeline.run.requests import TeacherRequest
from pipeline.sections import TeacherSettings
from pipeline.teacher.failures import TransientTeacherError


class Teacher(Protocol):
    """Whoever answers one request once; `pipeline.teacher.client` over HTTP."""

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        """Send one request once; see `TeacherClient.complete`."""
        ...


class StuckError(InterruptedRunError):
    """Raised when one address keeps failing while others are answered."""

    def __init__(self, address: Address, failures: int, last: str) -> None:
        super().__init__(
            f"stuck at {address}: it failed {failures} times while others were answered (last: "
            f"{last}). A longer teacher.timeout_s asks it again; "
            f"`evoloom resume RUN --give-up {address}` goes on without it"
        )
        self.address = address


class OutageError(InterruptedRunError):
    """Raised when the teacher stayed away longer than `teacher.outage_limit_s`."""


class AbandonedError(InterruptedRunError):
    """Raised when a request that is not to be sent any more, or not again, comes up."""


class Sender:
    """Asks a teacher and comes back with an outcome. Counts what failed on the way."""

    def __init__(
        self,
        teacher: Teacher,
        settings: TeacherSettings,
        on_pause: Callable[[str | None], None] = lambda reason: None,
    ) -> None:
        """
        Args:
            on_pause: called with the reason when the run pauses, with None when it goes on.
        """
        self._teacher = teacher
        self._settings = settings
        self._on_pause = on_pause
        self.congestion = Congestion(
            settings.concurrency, settings.min_concurrency, adapt=settings.adapt_concurrency
        )
        self._jitter = random.Random()  # noqa: S311 - when to retry is no part of the data
        self._streak = 0
        self._answers = 0
        self._failing: set[Address] = set()
        self._paused_since: float | None = None
        self._probe = asyncio.Lock()
        self._closed = False
        self._naps: set[asyncio.Future[None]] = set()
        self.retries = 0

    def send_no_more(self) -> None:
        """The run has what it needs, or stops: what is with the teacher may still come, nothing is
        sent."""
        self._closed = True
        self.congestion.let_everybody_pass()
        for nap in self._naps:
            nap.cancel()

    async def ask(self, request: TeacherRequest) -> tuple[Completion | Refusal, float]:
        """The outcome of a request, and the latency in seconds of the attempt that brought it.

        Raises:
            StuckError: this address failed `teacher.stuck_after` times while others were answered.
            OutageError: nobody was answered for `teacher.outage_limit_s`.
            FinalTeacherError: the endpoint refuses for good.
            AbandonedError: it would have to be sent (again) after `send_no_more`.
        """
        failures = failures_of_its_own = 0
        answers_before = self._answers
        while True:
            self._check_open()
            error: TransientTeacherError | None = None
            outcome: Completion | Refusal | None = None
            async with self._turn(request.address) as is_probe:
                started = time.monotonic()
                try:
                    outcome = await self._counted(request)
                except TransientTeacherError as exc:
                    error = exc
            if outcome is not None:
                self._answers += 1
                return outcome, time.monotonic() - started
            assert error is not None  # it is one or the other
            failures += 1
            self.retries += 1
            # In an outage, where others fail too, a failure says nothing about this address.
            if not is_probe or self._failing == {request.address}:
                failures_of_its_own += 1
                if failures_of_its_own == 1:
                    answers_before = self._answers
                others_answered = self._answers > answers_before
                if failures_of_its_own >= self._settings.stuck_after and others_answered:
                    raise StuckError(request.address, failures_of_its_own, str(error)) from error
            await self._after_failure(failures, error)

    @property
    def _is_paused(self) -> bool:
        return self._paused_since is not None

    @asynccontextmanager
    async def _turn(self, address: Address) -> AsyncIterator[bool]:
        """Wait until a request may be sent, and say whether it probes a teacher that is away."""
        while True:
            # The driver keeps to the limit with what it sends first; what is sent again waits here.
            await self.congestion.turn()
            self._check_open()
            if not self._is_paused:
                yield False
                return
            # One at a time asks; the others wait for it and, when the teacher is back, for their turn.
            async with self._probe:
                if self._is_paused:
                    self._check_outage(address)
                    await self._nap(self._settings.probe_interval_s)
                    self._check_open()
                    yield True
                    return

    async def _counted(self, request: TeacherRequest) -> Completion | Refusal:
        ticket = self.congestion.sent()
        try:
            outcome = await self._teacher.complete(request)
        except TransientTeacherError as exc:
            if self._is_paused:
                self.congestion.ended()  # nobody answers a paused run, however little it asks
            else:
                self.congestion.failed(ticket, overload=exc.overload)
            self._streak += 1
            self._failing.add(request.address)
            if self._streak >= self._settings.pause_after and not self._is_paused:
                self._paused_since = time.monotonic()
                self.congestion.let_everybody_pass()
                self._on_pause(f"the teacher does not answer ({exc})")
            raise
        except BaseException:
            self.congestion.ended()
            raise
        self.congestion.answered()
        self._streak = 0
        self._failing.clear()
        if self._is_paused:
            self._paused_since = None
            self.congestion.let_everybody_pass(self._closed)
            self._on_pause(None)
        return outcome

    def _check_open(self) -> None:
        if self._closed:
            raise AbandonedError("nothing more is sent")

    def _check_outage(self, address: Address) -> None:
        since = self._paused_since
        if since is not None and time.monotonic() - since >= self._settings.outage_limit_s:
            raise OutageError(
                f"the teacher did not answer for {self._settings.outage_limit_s:g} s; when it is "
                "back, `evoloom resume RUN` goes on where the run stopped. If it answers others, "
                f"`evoloom resume RUN --give-up {address}` goes on without what was asked last"
            )

    async def _after_failure(self, failures: int, error: TransientTeacherError) -> None:
        limit = self._settings.outage_limit_s
        if self._paused_since is not None:
            if error.retry_after_s is None:
                return  # the probe's interval paces a paused run
            limit -= time.monotonic() - self._paused_since
        longest = self._settings.retry_max_s
        wait = min(longest, self._settings.retry_base_s * 2.0 ** min(failures - 1, 30))
        wait *= self._jitter.uniform(0.5, 1.0)
        if error.retry_after_s is not None:
            # Who asks for a day's wait must not keep the run from seeing that this is an outage.
            wait = min(error.retry_after_s + self._jitter.uniform(0.0, 0.1), max(limit, 0.0))
        await self._nap(wait)

    async def _nap(self, seconds: float) -> None:
        """Sleep, but not longer than the run has use for what is to be sent."""
        nap = asyncio.ensure_future(asyncio.sleep(seconds))
        self._naps.add(nap)
        try:
            await asyncio.wait((nap,))
        finally:
            self._naps.discard(nap)
            nap.cancel()
