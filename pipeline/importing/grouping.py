"""Rows become instructions with their instances: equal texts are one, equal rows are flagged.

What has been seen is kept as hashes in a temporary file, so that memory does not grow with the rows.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.importing.records import BadRow, ImportedInstance, ImportedTask
from pipeline.records import (
    Batch,
    InstanceRow,
    InstanceState,
    InstructionRow,
    InstructionState,
    Position,
)

STAGE = "import"
_SHOWN_CHARACTERS = 200
_CACHE_KIB = 32 * 1024


@dataclass(frozen=True, slots=True)
class Counts:
    """What an import made of a file's rows.

    `rows` are good and bad together. `instructions` are distinct texts that are accepted;
    `unknown_classification` of them do not say whether they are classification tasks.
    `instances` are all that were read; `empty` counts those kept as rejected, by reason.
    """

    rows: int
    bad: dict[str, int]
    instructions: int
    unknown_classification: int
    instances: int
    accepted_instances: int
    duplicates: int
    empty: dict[str, int]


class _Known(NamedTuple):
    """What is known of an instruction's text: its first row, and its rows so far."""

    number: int
    instances: int = 0
    accepted: int = 0
    is_classification: bool | None = None
    difficulty: int | None = None

    def shows(self) -> tuple[bool, bool | None, int | None]:
        """What of it stands in the instruction's row."""
        return self.accepted > 0, self.is_classification, self.difficulty


class Grouper:
    """Makes the batches of an import, one a row, in the order of the rows."""

    def __init__(self, origin_of: Callable[[int], str]) -> None:
        """
        Args:
            origin_of: where the row with a number stands, in words.
        """
        self._origin_of = origin_of
        self._rows = self._instances = self._accepted = self._duplicates = 0
        self._bad: Counter[str] = Counter()
        self._empty: Counter[str] = Counter()
        # An unnamed database lives in memory up to its cache, then in a file that nobody sees.
        self._seen = sqlite3.connect("", isolation_level=None)
        self._seen.executescript(f"""
            PRAGMA cache_size = -{_CACHE_KIB};
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            CREATE TABLE texts (
              hash BLOB PRIMARY KEY, number INTEGER, instances INTEGER, accepted INTEGER,
              is_classification INTEGER, difficulty INTEGER
            ) WITHOUT ROWID;
            CREATE TABLE rows (hash BLOB PRIMARY KEY) WITHOUT ROWID;
            BEGIN;
        """)
        # Never committed: at the end of each transaction SQLite counts its changed pages one by one,
        # which made a row the dearer the more there were.

    def close(self) -> None:
        """Remove the temporary file."""
        self._seen.close()

    def add(self, number: int, task: ImportedTask) -> Batch:
        """The batch of a good row."""
        self._rows += 1
        text = task.instruction
        key = _hash(text)
        old = self._find(key)
        known = old or _Known(number)
        is_empty = not text.strip()
        rows = [
            self._instance((known.number - 1,), index, text, item, is_empty)
            for index, item in enumerate(task.instances, known.instances)
        ]
        accepted = sum(row.reason is None for row in rows)
        self._instances += len(rows)
        self._accepted += accepted
        # The first row that knows decides.
        new = _Known(
            known.number,
            known.instances + len(rows),
            known.accepted + accepted,
            task.is_classification if known.is_classification is None else known.is_classification,
            task.difficulty if known.difficulty is None else known.difficulty,
        )
        self._seen.execute("INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?, ?, ?)", (key, *new))
        if old is not None and old.shows() == new.shows():
            return Batch(STAGE, (number - 1,), instances=tuple(rows))
        instruction = self._instruction(text, new, is_empty)
        return Batch(STAGE, (number - 1,), instructions=(instruction,), instances=tuple(rows))

    def reject(self, bad: BadRow) -> Batch:
        """The batch of a bad row: an instruction that is rejected."""
        self._rows += 1
        self._bad[bad.reason] += 1
        start = bad.raw[:_SHOWN_CHARACTERS].replace("\0", "\ufffd")
        row = InstructionRow(
            STAGE,
            (bad.number - 1,),
            start.encode("utf-8", "replace").decode(),
            "rejected",
            reason=bad.reason,
            evidence=bad.detail,
            origin=self._origin_of(bad.number),
        )
        return Batch(STAGE, (bad.number - 1,), instructions=(row,))

    def counts(self) -> Counts:
        """What was made so far."""
        instructions, unknown = self._seen.execute(
            "SELECT count(*), count(*) - count(is_classification) FROM texts WHERE accepted > 0"
        ).fetchone()
        return Counts(
            rows=self._rows,
            bad=dict(self._bad.most_common()),
            instructions=instructions,
            unknown_classification=unknown,
            instances=self._instances,
            accepted_instances=self._accepted,
            duplicates=self._duplicates,
            empty=dict(self._empty.most_common()),
        )

    def _instance(
        self, position: Position, index: int, text: str, item: ImportedInstance, is_empty: bool
    ) -> InstanceRow:
        reason = "empty_instruction" if is_empty else _emptiness(item)
        if reason is not None:
            self._empty[reason] += 1
        is_duplicate = self._is_seen(text, item)
        self._duplicates += is_duplicate
        turns = json.dumps(item.further_turns, ensure_ascii=False) if item.further_turns else None
        state: InstanceState = "rejected" if reason else "accepted"
        return InstanceRow(
            STAGE, position, index, item.input, item.output, state, reason, is_duplicate,
            item.system, turns,
        )  # fmt: skip

    def _instruction(self, text: str, known: _Known, is_empty: bool) -> InstructionRow:
        state: InstructionState = "accepted"
        reason = None
        if is_empty:
            state, reason = "rejected", "empty_instruction"
        elif not known.accepted:
            state = "without_instances"
            reason = "all_instances_rejected" if known.instances else "no_instances"
        return InstructionRow(
            STAGE,
            (known.number - 1,),
            text,
            state,
            reason,
            is_classification=known.is_classification,
            difficulty=known.difficulty,
            origin=self._origin_of(known.number),
        )

    def _find(self, key: bytes) -> _Known | None:
        row = self._seen.execute(
            "SELECT number, instances, accepted, is_classification, difficulty FROM texts "
            "WHERE hash = ?",
            (key,),
        ).fetchone()
        if row is None:
            return None
        known = _Known(*row)
        if known.is_classification is None:
            return known
        return known._replace(is_classification=bool(known.is_classification))

    def _is_seen(self, instruction: str, item: ImportedInstance) -> bool:
        turns = (text for pair in item.further_turns for text in pair)
        key = _hash(instruction, item.input, item.output, item.system, *turns)
        cursor = self._seen.execute("INSERT OR IGNORE INTO rows VALUES (?)", [key])
        return cursor.rowcount == 0


def _emptiness(item: ImportedInstance) -> str | None:
    """Why trainers would choke on an instance, if they would."""
    if not item.output.strip():
        return "empty_output"
    if any(not text.strip() for pair in item.further_turns for text in pair):
        return "empty_turn"
    return None


def _hash(*texts: str | None) -> bytes:
    # Lengths keep ("ab", "c") and ("a", "bc") apart, and no text from an empty one.
    parts = [b"-" if text is None else text.encode("utf-8", "surrogatepass") for text in texts]
    lengths = ",".join("-" if text is None else str(len(text)) for text in texts)
    return hashlib.blake2b(b"".join([lengths.encode(), b":", *parts]), digest_size=16).digest()
