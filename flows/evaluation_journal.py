"""Answers of an evaluation in a journal: taken from earlier evaluations, and looked through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.records import Address, Batch, Completion, JournalEntry, Refusal
from pipeline.run.requests import TeacherRequest
from pipeline.student.evaluation.machine import Question
from store.evaluations import RecordedAnswers
from store.journal import FileJournal


class Nowhere:
    """A sink for rows that are derived elsewhere."""

    def write(self, batches: Sequence[Batch]) -> None:
        """Take nothing."""


class Nobody:
    """A teacher where everything is answered already."""

    async def complete(self, request: TeacherRequest) -> Completion | Refusal:
        """Never called."""
        raise AssertionError(f"{request.address} was to be answered from the journal")


class StageJournal:
    """A journal as a machine of some stages sees it: the entries of its stages alone."""

    def __init__(self, journal: FileJournal, stages: Sequence[str]) -> None:
        self._journal = journal
        self._stages = frozenset(stages)

    def get(self, address: Address) -> JournalEntry | None:
        """The entry at an address, or None."""
        return self._journal.get(address)

    async def append(self, entry: JournalEntry) -> None:
        """Return when the entry is on disk."""
        await self._journal.append(entry)

    async def drain(self) -> None:
        """Return when nothing is waiting to be written."""
        await self._journal.drain()

    def entries(self) -> Iterator[JournalEntry]:
        """The entries of these stages, in the order they were written."""
        return (one for one in self._journal.entries() if one.address.stage in self._stages)

    def __len__(self) -> int:
        return sum(1 for _ in self.entries())


async def take_recorded(
    journal: FileJournal, recorded: RecordedAnswers, questions: Sequence[Question], re_asks: int = 0
) -> None:
    """Copy into a journal what an earlier evaluation was answered to the same requests."""
    waiting = []
    for question in questions:
        for attempt in range(re_asks + 1):
            address = Address(question.stage, question.position, attempt)
            if (there := journal.get(address)) is None:
                request = question.make_request(address)
                key = str(question.context["scoring"])
                found = recorded.find(key, request.request_hash(), attempt)
                if found is None:
                    break
                note = {**question.context, "recorded_from": found.run_id}
                there = replace(found.entry, address=address, context=note)
                waiting.append(journal.append(there))
            if question.is_readable(there.outcome):
                break
    await asyncio.gather(*waiting)


def is_answered(journal: FileJournal, questions: Sequence[Question], re_asks: int = 0) -> bool:
    """Whether a journal settles every question."""
    for question in questions:
        for attempt in range(re_asks + 1):
            there = journal.get(Address(question.stage, question.position, attempt))
            if there is None:
                return False
            if question.is_readable(there.outcome):
                break
    return True
