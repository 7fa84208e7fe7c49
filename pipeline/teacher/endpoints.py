"""Several endpoints of one model as one teacher: balanced by outstanding requests and by health.

Which endpoint answers is no part of the data: each is sent the identical request, sampling seed
included. A request that fails at one is sent to another at once, so that the run notices a failure
only when every endpoint has failed it; what to do then (again, pause, give up) is the run's own
decision, as with one endpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.records import Completion, Refusal
from pipeline.run.requests import TeacherRequest
from pipeline.teacher.failures import FinalTeacherError, TransientTeacherError


class Client(Protocol):
    """One endpoint; `pipeline.teacher.client` over HTTP."""

    base_url: str

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        """Send one request once; see `TeacherClient.complete`."""
        ...


@dataclass(slots=True)
class Endpoint:
    """One endpoint and how it is doing. Times are those of the balancer's clock, in seconds."""

    client: Client
    outstanding: int = 0
    sent: int = 0
    streak: int = 0
    """Failures in a row."""
    aside_until: float | None = None
    """When it is tried again; None: it is not put aside."""
    is_tried: bool = False
    """Whether the one request that tries it is with it now."""
    reason: str = ""
    """Why it was put aside."""


class Endpoints:
    """The teacher that several clients are together."""

    def __init__(
        self,
        clients: Sequence[Client],
        *,
        aside_after: int,
        probe_interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            clients: one for each endpoint, all of the same model.
            aside_after: failures in a row that put an endpoint aside.
            probe_interval_s: seconds until one that was put aside is sent a request again.
        """
        self.endpoints = [Endpoint(client) for client in clients]
        self._aside_after = aside_after
        self._probe_interval_s = probe_interval_s
        self._clock = clock

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        """Send a request to one endpoint after the other until one answers, each at most once.

        Raises:
            TransientTeacherError: all that were tried failed; the error is that of the one that can
                be asked again soonest.
            FinalTeacherError: one refuses for good; the message names it.
        """
        failed: list[Endpoint] = []
        errors: list[TransientTeacherError] = []
        while (endpoint := self._choose(failed)) is not None:
            try:
                return await self._ask(endpoint, request)
            except TransientTeacherError as exc:
                errors.append(exc)
                failed.append(endpoint)
            except FinalTeacherError as exc:
                raise FinalTeacherError(f"{endpoint.client.base_url}: {exc}") from exc
        # There is at least one endpoint, and it failed.
        raise min(errors, key=lambda error: error.retry_after_s or 0.0)

    def warnings(self) -> list[str]:
        """What people should know: which endpoints are put aside, and why."""
        return [
            f"teacher {endpoint.client.base_url} is put aside ({endpoint.reason}); the others are "
            "asked"
            for endpoint in self.endpoints
            if endpoint.aside_until is not None
        ]

    async def _ask(self, endpoint: Endpoint, request: TeacherRequest) -> Completion | Refusal:
        is_trial = endpoint.aside_until is not None and not endpoint.is_tried
        endpoint.is_tried = endpoint.is_tried or is_trial
        endpoint.outstanding += 1
        endpoint.sent += 1
        try:
            outcome = await endpoint.client.complete(request)
        except TransientTeacherError as exc:
            self._failed(endpoint, exc)
            raise
        finally:
            endpoint.outstanding -= 1
            if is_trial:
                endpoint.is_tried = False
        endpoint.streak = 0
        endpoint.aside_until = None
        return outcome

    def _choose(self, failed: Sequence[Endpoint]) -> Endpoint | None:
        """The endpoint with the fewest outstanding requests among those that are well or due to be
        tried; where there is none, among all, so that the first to be back is found."""
        now = self._clock()
        left = [item for item in self.endpoints if item not in failed]
        fit = [
            item
            for item in left
            if item.aside_until is None or (now >= item.aside_until and not item.is_tried)
        ]
        # A request that failed where all is well needs no trial of what is put aside.
        if not fit and all(item.aside_until is not None for item in self.endpoints):
            fit = left
        return min(fit, key=lambda item: (item.outstanding, item.sent), default=None)

    def _failed(self, endpoint: Endpoint, error: TransientTeacherError) -> None:
        endpoint.streak += 1
        wait = error.retry_after_s
        if endpoint.streak < self._aside_after and wait is None:
            return
        endpoint.reason = str(error)
        endpoint.aside_until = self._clock() + (self._probe_interval_s if wait is None else wait)
