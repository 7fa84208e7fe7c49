"""One sender for each teacher of a run: an outage of one stage's teacher is nobody else's.

Failures in a row, pauses and stuck addresses are counted by teacher. All share one limit on requests
in flight: it is the run's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pipeline.records import Completion, Refusal
from pipeline.run.congestion import Congestion
from pipeline.run.requests import TeacherRequest
from pipeline.run.sender import Sender, Teacher
from pipeline.sections import TeacherSettings


class Sending(Protocol):
    """Whoever sends requests until they are answered; see `Sender`."""

    congestion: Congestion

    @property
    def retries(self) -> int:
        """Requests that were sent again."""
        ...

    def send_no_more(self) -> None:
        """See `Sender.send_no_more`."""
        ...

    async def ask(self, request: TeacherRequest) -> tuple[Completion | Refusal, float]:
        """See `Sender.ask`."""
        ...


class StageSenders:
    """A sender for each teacher."""

    def __init__(
        self,
        default: Teacher | None,
        stages: Mapping[str, Teacher],
        settings: TeacherSettings,
        on_pause: Callable[[str | None], None] = lambda reason: None,
    ) -> None:
        """
        Args:
            default: who answers the stages that `stages` has none for.
            on_pause: called with a reason when a teacher pauses the run, with None when the last
                that did goes on.
        """
        self._on_pause = on_pause
        self._paused: dict[int, str] = {}
        self.congestion = Congestion(
            settings.concurrency, settings.min_concurrency, adapt=settings.adapt_concurrency
        )
        self._senders: dict[int, Sender] = {}
        self._stages = dict(stages)
        self._default = default
        for teacher in (*stages.values(), default):
            if teacher is not None and id(teacher) not in self._senders:
                names = ", ".join(name for name, other in stages.items() if other is teacher)
                sender = Sender(teacher, settings, self._pausing(id(teacher), names))
                sender.congestion = self.congestion
                self._senders[id(teacher)] = sender

    @property
    def retries(self) -> int:
        """Requests that were sent again."""
        return sum(sender.retries for sender in self._senders.values())

    def send_no_more(self) -> None:
        """See `Sender.send_no_more`."""
        for sender in self._senders.values():
            sender.send_no_more()

    async def ask(self, request: TeacherRequest) -> tuple[Completion | Refusal, float]:
        """See `Sender.ask`."""
        teacher = self._stages.get(request.address.stage, self._default)
        return await self._senders[id(teacher)].ask(request)

    def _pausing(self, key: int, stages: str) -> Callable[[str | None], None]:
        def pause(reason: str | None) -> None:
            if reason is None:
                self._paused.pop(key, None)
                self._on_pause("; ".join(self._paused.values()) or None)
                return
            self._paused[key] = f"{reason}; asked by {stages}" if stages else reason
            self._on_pause("; ".join(self._paused.values()))

        return pause
