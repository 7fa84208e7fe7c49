"""Pruning: a run that has ended gives up its journal, and keeps everything else.

What was made of the answers is in the spool, from which DuckDB can be made again; the answers cannot be
derived again under other settings. That a run was pruned is on disk before its journal goes, so that a
kill in between leaves a run that says so, and that the next pruning finishes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pipeline.errors import EvoloomError
from pipeline.records import Address, Completion, JournalEntry, Refusal
from store import checked_lines
from store.evaluations import ANSWERS, EVALUATED, RESULTS
from store.evaluations import KIND as EVALUATION
from store.run_directory import (
    PRUNED,
    SETTLED_STATES,
    PrunedRecord,
    read_manifest,
    read_pruned,
    read_state,
    spool_path,
)
from store.run_writer import JOURNAL, taken
from store.spool import read_batches

JOURNALS = (JOURNAL, ANSWERS)
"""What pruning removes of a run. An evaluation has its students' answers in one of their own."""


class JournalNeededError(EvoloomError):
    """Raised when a run has to keep its journal; the message says why."""


def journal_bytes(run_dir: Path) -> int:
    """How much a run's journals take on disk; 0 where it has none, or has been pruned."""
    return sum(path.stat().st_size for path in _journals(run_dir))


def prune_run(run_dir: Path, now: datetime, *, dry_run: bool = False) -> PrunedRecord:
    """Remove a run's journal, durably.

    Args:
        now: noted as the time of it (UTC, without a zone).
        dry_run: check all the same, and remove nothing.

    Raises:
        RunTakenError: a process executes the run.
        JournalNeededError: the run can be resumed, or its spool lacks what the journal holds.
        DamagedRunError, DamagedFileError: its files cannot be read.
        OSError: the record cannot be written; the journal is still there.
    """
    with taken(run_dir):
        record = read_pruned(run_dir)
        if record is None:
            state = read_state(run_dir).state
            if state not in SETTLED_STATES:
                raise JournalNeededError(f"it is {state}, and a resume reads its journal")
            record = PrunedRecord(now, journal_bytes(run_dir), _count_checked(run_dir))
            if not dry_run:
                _write(run_dir, record)
        if not dry_run:
            for path in _journals(run_dir):
                path.unlink()
            checked_lines.fsync_directory(run_dir)
    return record


def spooled_entries(run_dir: Path) -> Iterator[JournalEntry]:
    """The answers of a run as its spool has them, in its order. What was asked is not among it, so
    that they serve to read what an answer says, and not to check what it answers."""
    for _, batch in read_batches(spool_path(run_dir)):
        for row in batch.completions:
            outcome = (
                Refusal(row.reason or "refused", "")
                if row.text is None
                else Completion(row.text, row.finish_reason or "", row.usage, row.model)
            )
            address = Address(row.stage, row.position, row.attempt)
            yield JournalEntry(
                address, "", "", {}, outcome, row.reserved_tokens, row.latency_s, row.answered_at
            )


def _journals(run_dir: Path) -> list[Path]:
    paths = (run_dir / name for name in JOURNALS)
    return [path for path in paths if path.exists()]


def _write(run_dir: Path, record: PrunedRecord) -> None:
    value = {
        "pruned_at": record.pruned_at.isoformat(timespec="milliseconds"),
        "bytes": record.bytes,
        "entries": record.entries,
    }
    checked_lines.write_atomically(run_dir / PRUNED, json.dumps(value, indent=2).encode() + b"\n")


def _count_checked(run_dir: Path) -> int:
    """Count the answers of the journals, each of which what is kept must hold too.

    The spool is derived data: somebody may have removed it, for the journal to derive it again.
    """
    count = 0
    missing = {value["address"] for _, _, value in checked_lines.read(run_dir / JOURNAL)}
    count += len(missing)
    for _, batch in read_batches(spool_path(run_dir)):
        for row in batch.completions:
            missing.discard(str(Address(row.stage, row.position, row.attempt)))
    if missing:
        raise JournalNeededError(
            f"its spool lacks {len(missing):,} of the {count:,} answers in its journal, the first: "
            f"{min(missing)}. Remove {run_dir / 'state.json'}, and `evoloom resume {run_dir.name}` "
            "derives them again"
        )
    if read_manifest(run_dir).kind == EVALUATION:
        for name in (RESULTS, EVALUATED):
            if not (run_dir / name).exists():
                raise JournalNeededError(f"{run_dir / name} is missing, which its answers came to")
    return count + sum(1 for _ in checked_lines.read(run_dir / ANSWERS))
