"""A run's machine for questions that do not depend on each other: all can be asked at once.

It is what the driver drives, so that an evaluation's answers are journaled, sent again after
failures, paused over an outage and counted against caps like those of any other run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.records import (
    Address,
    Batch,
    Completion,
    CompletionRow,
    JournalEntry,
    Outcome,
    Position,
)
from pipeline.run.machine import MachineProgress, StageProgress
from pipeline.run.requests import TeacherRequest
from pipeline.run.rows import completion_row


def _always(outcome: Outcome) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask, at (stage, position)."""

    stage: str
    position: Position
    make_request: Callable[[Address], TeacherRequest]
    context: Mapping[str, Any] = field(default_factory=dict)
    """What is journaled with the answer."""
    is_readable: Callable[[Outcome], bool] = _always
    """Whether an outcome answers the question; if not, it is asked again, `re_asks` times."""


class QuestionMachine:
    """Asks every question of some stages, and unreadable answers again."""

    def __init__(self, questions: Sequence[Question], re_asks: int = 0) -> None:
        """
        Args:
            questions: in the order they are asked; those of one stage with ascending positions.
        """
        self._questions = {(item.stage, item.position): item for item in questions}
        self._re_asks = re_asks
        self._fresh = [Address(item.stage, item.position) for item in questions]
        self._requests: dict[Address, TeacherRequest] = {}
        self._entries: dict[tuple[str, Position], list[JournalEntry]] = {}
        self._settled: dict[tuple[str, Position], Outcome] = {}
        self._waiting: dict[str, list[Position]] = {}
        for item in questions:
            self._waiting.setdefault(item.stage, []).append(item.position)
        for positions in self._waiting.values():
            positions.reverse()
        self._known = {stage: len(positions) for stage, positions in self._waiting.items()}
        self.unreadable = 0
        """Answers, all attempts counted, that could not be read."""

    @property
    def stages(self) -> Sequence[str]:
        """The stages, in the order in which their questions were given."""
        return tuple(self._waiting)

    def ready(self) -> list[Address]:
        """Addresses not named before."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def may_send(self, address: Address) -> bool:
        """Every question is worth asking."""
        return True

    def sent(self, address: Address) -> None:
        """Nothing depends on it."""

    def request(self, address: Address) -> TeacherRequest:
        """What an address asks."""
        if address not in self._requests:
            question = self._questions[address.stage, address.position]
            self._requests[address] = question.make_request(address)
        return self._requests[address]

    def context(self, address: Address) -> dict[str, Any]:
        """The question's own note."""
        return dict(self._questions[address.stage, address.position].context)

    def apply(self, entry: JournalEntry) -> None:
        """Take an outcome; one that cannot be read is asked for again."""
        address = entry.address
        key = (address.stage, address.position)
        self._requests.pop(address, None)
        self._entries.setdefault(key, []).append(entry)
        is_readable = self._questions[key].is_readable(entry.outcome)
        self.unreadable += not is_readable
        if is_readable or address.attempt >= self._re_asks:
            self._settled[key] = entry.outcome
        else:
            again = Address(address.stage, address.position, address.attempt + 1)
            self._fresh.append(again)

    def lacks(self, address: Address) -> None:
        """An evaluation is not derived without its answers."""

    def drain(self) -> list[Batch]:
        """Completions of settled questions, in position order, with all their attempts."""
        batches = []
        for stage, positions in self._waiting.items():
            while positions and (stage, positions[-1]) in self._settled:
                position = positions.pop()
                rows = tuple(map(self._row, self._entries.pop((stage, position))))
                batches.append(Batch(stage, position, rows))
        return batches

    def _row(self, entry: JournalEntry) -> CompletionRow:
        question = self._questions[entry.address.stage, entry.address.position]
        if not isinstance(entry.outcome, Completion):
            return completion_row(entry, "discarded")
        if question.is_readable(entry.outcome):
            return completion_row(entry, "used")
        return completion_row(entry, "discarded", "unreadable")

    def finished(self) -> Literal["completed", "ceiling"] | None:
        """Completed when every question is settled."""
        return "completed" if len(self._settled) == len(self._questions) else None

    def finish(self, unused: Sequence[JournalEntry], *, partial: bool = False) -> list[Batch]:
        """Nothing is surplus: what is unused belongs to another phase of the evaluation."""
        return self.drain()

    def left_out(self) -> list[str]:
        """Nothing is."""
        return []

    def outcome(self, stage: str, position: Position) -> Outcome:
        """What came of a settled question: its last outcome."""
        return self._settled[stage, position]

    def progress(self) -> MachineProgress:
        """Counts for people."""
        done = dict.fromkeys(self._known, 0)
        for stage, _ in self._settled:
            done[stage] += 1
        total = sum(self._known.values())
        return MachineProgress(
            accepted=len(self._settled),
            target=total,
            stages={stage: StageProgress(done[stage], known)
                    for stage, known in self._known.items()},
            share_done=len(self._settled) / total if total else 1.0,
            counted="answered",
        )  # fmt: skip
