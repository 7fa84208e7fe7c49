"""The supervisor of `evoloom up`: starts services in order, keeps them healthy, stops them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Literal

from flows.up.place import Place, RefusedStartError, StartFailedError, Status, bound
from flows.up.runs import adopt_orphans, marked, reap_orphans, stop_runs
from flows.up.service import Service, Supervised
from pipeline.errors import UsageError

_STEP_S = 0.2
_MOST_FAILED_STARTS = 4
_MOST_REFUSED_STARTS = 2
"""Of services that end with exit code 2: usage or configuration, which time does not mend."""


class UpSupervisor:
    """Runs services until it is told to end."""

    def __init__(
        self,
        place: Place,
        services: Sequence[Service],
        addresses: Mapping[str, str],
        grace_s: float,
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            services: in the order in which they are started: each waits until those before it were
                healthy.
            addresses: what answers where, for the status.
            grace_s: what runs in progress have for what is in flight (`run.grace_s`).
        """
        self._place = place
        self._addresses = dict(addresses)
        self._grace_s = grace_s
        self._say = say
        self._supervised = [
            Supervised(service, place.log(service.name), say) for service in services
        ]
        self._signals: list[int] = []
        self._said: Status | None = None
        self._state: Literal["starting", "up", "stopping", "down"] = "starting"

    def run(self, on_up: Callable[[], None]) -> None:
        """Start everything, call `on_up` when all of it is healthy for the first time, and go on until
        SIGTERM or SIGINT; then stop everything in reverse order.

        Raises:
            StartFailedError: a service does not come up; everything is stopped.
        """
        adopt_orphans()
        self._stop_left_over()
        with self._listening():
            try:
                while not self._signals:
                    self._step()
                    if self._state == "starting" and all(
                        each.was_healthy for each in self._supervised
                    ):
                        self._state = "up"
                        self._tell()
                        on_up()
                    time.sleep(_STEP_S)
            finally:
                self._stop()

    def _step(self) -> None:
        healthy = {each.service.name for each in self._supervised if each.state == "healthy"}
        is_due = True
        for each in self._supervised:
            each.step(may_start=is_due and healthy.issuperset(each.service.needs))
            is_due = is_due and each.was_healthy
        if self._state == "starting":
            self._give_up_if_hopeless()
        reap_orphans(self._pids())
        with suppress(OSError):
            bound(self._place.log("supervisor"))
        self._tell()

    def _give_up_if_hopeless(self) -> None:
        for each in self._supervised:
            refused = each.exit_code == UsageError.exit_code
            if each.failed_starts >= (_MOST_REFUSED_STARTS if refused else _MOST_FAILED_STARTS):
                kind = RefusedStartError if refused else StartFailedError
                raise kind(f"{each.service.name} {each.message}; its log is {each.log}")

    def _stop(self) -> None:
        self._state = "stopping"
        self._tell()
        left = list(self._supervised)
        while left and not left[-1].service.name.startswith("worker"):
            left.pop().stop()
            self._tell()
        is_worker = [each.service.name.startswith("worker") for each in left]
        workers = {each.pid for each, is_one in zip(left, is_worker, strict=True)
                   if is_one and each.pid}  # fmt: skip
        others = {each.pid for each in left if each.pid} - workers
        stop_runs(self._place.mark, workers, others, self._grace_s, self._say,
                  lambda: len(self._signals) > 1)  # fmt: skip
        for each in reversed(left):
            each.stop()
            self._tell()
        self._state = "down"
        self._tell()
        self._say("everything is stopped")

    def _stop_left_over(self) -> None:
        """What a supervisor that was killed has left, but for runs in progress: they go on. The
        kernel ends services with their supervisor; one may not have got round to it."""
        status = self._place.read_status()
        pids = {service.pid for service in status.services} if status else set()
        while left := marked(self._place.mark) & pids:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_STEP_S)

    def _pids(self) -> set[int]:
        return {each.pid for each in self._supervised if each.pid is not None}

    def _tell(self) -> None:
        status = Status(
            self._state,
            os.getpid(),
            self._addresses,
            tuple(each.status() for each in self._supervised),
        )
        if status != self._said:
            with suppress(OSError):  # a full disk ends no service; the next look writes it
                self._place.write_status(status)
                self._said = status

    @contextmanager
    def _listening(self) -> Iterator[None]:
        def on_signal(number: int, _frame: FrameType | None) -> None:
            self._signals.append(number)
            if len(self._signals) == 1:
                self._say(
                    f"{signal.Signals(number).name}: stopping; a second one ends runs at once"
                )

        before = {number: signal.signal(number, on_signal)
                  for number in (signal.SIGTERM, signal.SIGINT)}  # fmt: skip
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
