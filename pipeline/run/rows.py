"""Rows that every method's run derives the same way from a journaled outcome."""

from __future__ import annotations

from pipeline.records import (
    Completion,
    CompletionRow,
    CompletionState,
    JournalEntry,
    ShotRecord,
)


def completion_row(
    entry: JournalEntry, state: CompletionState, reason: str | None = None
) -> CompletionRow:
    """The row of a journaled outcome; a refusal is its own reason."""
    outcome = entry.outcome
    answer = outcome if isinstance(outcome, Completion) else None
    return CompletionRow(
        entry.address.stage,
        entry.address.position,
        entry.address.attempt,
        state,
        reason if isinstance(outcome, Completion) else outcome.kind,
        answer.text if answer else None,
        answer.finish_reason if answer else None,
        answer.usage if answer else None,
        entry.reserved_tokens,
        entry.latency_s,
        entry.answered_at,
        answer.model if answer else "",
        _shots(entry),
    )


def _shots(entry: JournalEntry) -> tuple[ShotRecord, ...]:
    pairs = (text.split(" ", 1) for text in entry.context.get("shots", ()))
    return tuple(
        ShotRecord(slot, "machine" if source == "machine" else "seed", reference)
        for slot, (source, reference) in enumerate(pairs)
    )
