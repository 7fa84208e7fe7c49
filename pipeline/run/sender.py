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
from collections.abc import Callable
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
    """Raised when a request that nobody needs any more failed: it is not sent again."""


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
        self._paused_since: float | None = None
        self._probe = asyncio.Lock()
        self._back = asyncio.Event()
        self._back.set()
        self._closed = False
        self._naps: set[asyncio.Future[None]] = set()
        self.retries = 0

    def send_no_more(self) -> None:
        """The run has what it needs: what is with the teacher may still come, nothing is sent."""
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
        failures = 0
        answers_before = self._answers
        while True:
            self._check_open()
            started = time.monotonic()
            try:
                outcome = await self._attempt(request)
            except TransientTeacherError as exc:
                failures += 1
                self.retries += 1
                if failures == 1:
                    answers_before = self._answers
                others_answered = self._answers > answers_before
                if failures >= self._settings.stuck_after and others_answered:
                    raise StuckError(request.address, failures, str(exc)) from exc
                await self._after_failure(failures, exc)
                continue
            self._answers += 1
            return outcome, time.monotonic() - started

    async def _attempt(self, request: TeacherRequest) -> Completion | Refusal:
        # The driver keeps to the limit with what it sends first; what is sent again waits here.
        await self.congestion.turn()
        self._check_open()
        if self._back.is_set():
            return await self._counted(request)
        # Paused: whoever holds the probe asks; the others wait for it, or for the teacher's return.
        async with self._probe:
            if self._back.is_set():
                return await self._counted(request)
            self._check_outage(request.address)
            await self._nap(self._settings.probe_interval_s)
            self._check_open()
            return await self._counted(request)

    async def _counted(self, request: TeacherRequest) -> Completion | Refusal:
        ticket = self.congestion.sent()
        try:
            outcome = await self._teacher.complete(request)
        except TransientTeacherError as exc:
            if self._back.is_set():
                self.congestion.failed(ticket, overload=exc.overload)
            else:
                self.congestion.ended()  # nobody answers a paused run, however little it asks
            self._streak += 1
            if self._streak >= self._settings.pause_after and self._back.is_set():
                self._paused_since = time.monotonic()
                self._back.clear()
                self.congestion.let_everybody_pass()
                self._on_pause(f"the teacher does not answer ({exc})")
            raise
        except BaseException:
            self.congestion.ended()
            raise
        self.congestion.answered()
        self._streak = 0
        if not self._back.is_set():
            self._paused_since = None
            self._back.set()
            self.congestion.let_everybody_pass(self._closed)
            self._on_pause(None)
        return outcome

    def _check_open(self) -> None:
        if self._closed:
            raise AbandonedError("the run has what it needs")

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
