"""What an evaluation takes over from earlier ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from pipeline.records import Address, Completion, JournalEntry, Outcome, Refusal
from store.evaluations import SCORINGS, RecordedAnswers
from store.journal import FileJournal
from store.run_writer import JOURNAL

KEY = "k"


def entry(number: int, request_hash: str, outcome: Outcome, attempt: int = 0) -> JournalEntry:
    return JournalEntry(
        Address("judge", (number,), attempt), request_hash, "", {}, outcome, 0, 0.1,
        "2026-11-27T00:00:00.000Z", {"scoring": KEY},
    )  # fmt: skip


def recorded(runs_dir: Path, *entries: JournalEntry) -> RecordedAnswers:
    """The answers of an evaluation that has these entries."""
    run_dir = runs_dir / "first"
    run_dir.mkdir(parents=True)
    (run_dir / SCORINGS).write_text(json.dumps({"scorings": [{"key": KEY}]}))

    async def write() -> None:
        journal = FileJournal(run_dir / JOURNAL)
        for one in entries:
            await journal.append(one)
        journal.close()

    asyncio.run(write())
    return RecordedAnswers(runs_dir, [KEY])


def test_each_attempt_has_its_own_answer(tmp_path: Path) -> None:
    # All attempts after the first have the same hash: they differ in their seed.
    answers = [Completion(text, "stop", None) for text in ("first", "second", "third")]
    found = recorded(
        tmp_path,
        entry(0, "cold", answers[0]),
        entry(0, "warm", answers[1], 1),
        entry(0, "warm", answers[2], 2),
    )
    for attempt, (request_hash, answer) in enumerate(
        zip(("cold", "warm", "warm"), answers, strict=True)
    ):
        there = found.find(KEY, request_hash, attempt)
        assert there is not None and there.entry.outcome == answer


def test_what_was_too_long_is_asked_again(tmp_path: Path) -> None:
    found = recorded(
        tmp_path,
        entry(0, "long", Refusal("context_length", "513 tokens")),
        entry(1, "bad", Refusal("content_policy", "no")),
    )
    assert found.find(KEY, "long", 0) is None
    assert found.find(KEY, "bad", 0) is not None
