"""Seed tasks that were submitted over REST: the pool. A retracted one stays, marked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.records import Instance, SeedTask
from store.service.database import Row, ServiceDatabase, next_revision, now_utc

_COLUMNS = (
    "number, id, name, instruction, is_classification, instances, submitted_by, submitted_at, "
    "retracted_at"
)
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class PoolTask:
    """A seed task in the pool; `number` is its place in it, times are UTC, `submitted_by` is the
    id of a key."""

    number: int
    task: SeedTask
    submitted_by: str
    submitted_at: str
    retracted_at: str | None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks of the pool are wanted; None takes all."""

    text: str | None = None
    is_classification: bool | None = None
    submitted_by: str | None = None
    is_retracted: bool | None = False


def insert_tasks(
    connection: sqlite3.Connection, tasks: Sequence[SeedTask], submitted_by: str
) -> list[PoolTask]:
    """Add tasks whose ids and texts are known to be new; returns them as they are in the pool."""
    revision, now = next_revision(connection), now_utc()
    stored = []
    for task in tasks:
        cursor = connection.execute(
            "INSERT INTO seed_tasks (id, name, instruction, is_classification, instances, "
            "submitted_by, submitted_at, revision) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (task.id, task.name, task.instruction, task.is_classification,
             json.dumps([[item.input, item.output] for item in task.instances], ensure_ascii=False),
             submitted_by, now, revision),
        )  # fmt: skip
        stored.append(PoolTask(int(cursor.lastrowid or 0), task, submitted_by, now, None))
    return stored


def known_ids(connection: sqlite3.Connection, ids: Sequence[str]) -> set[str]:
    """Those of these ids that a task has, also a retracted one."""
    found: set[str] = set()
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(part))
        rows = connection.execute(f"SELECT id FROM seed_tasks WHERE id IN ({marks})", part)
        found.update(row[0] for row in rows)
    return found


def retract_task(connection: sqlite3.Connection, task_id: str) -> None:
    """Mark a task as retracted; one that is already stays as it is."""
    connection.execute(
        "UPDATE seed_tasks SET retracted_at = ?, revision = ? "
        "WHERE id = ? AND retracted_at IS NULL",
        (now_utc(), next_revision(connection), task_id),
    )


def find_task(database: ServiceDatabase, task_id: str) -> PoolTask | None:
    """A task by its id, also a retracted one."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM seed_tasks WHERE id = ?", (task_id,))
    return _task(rows[0]) if rows else None


def list_tasks(
    database: ServiceDatabase, wanted: TaskFilter, *, after: int = 0, limit: int
) -> list[PoolTask]:
    """Tasks in the order they came, after the one with the number `after`."""
    condition, values = _condition(wanted)
    rows = database.rows(
        f"SELECT {_COLUMNS} FROM seed_tasks WHERE number > ? AND {condition} "
        "ORDER BY number LIMIT ?",
        (after, *values, limit),
    )
    return [_task(row) for row in rows]


def find_tasks(database: ServiceDatabase, ids: Sequence[str]) -> dict[str, PoolTask]:
    """The tasks with these ids, retracted ones too."""
    found: dict[str, PoolTask] = {}
    for start in range(0, len(ids), _AT_ONCE):
        part = tuple(ids[start : start + _AT_ONCE])
        marks = ", ".join("?" * len(part))
        rows = database.rows(f"SELECT {_COLUMNS} FROM seed_tasks WHERE id IN ({marks})", part)
        found.update((row[1], _task(row)) for row in rows)
    return found


def active_texts(database: ServiceDatabase) -> Iterator[tuple[str, str]]:
    """(id, instruction) of every task that is not retracted, in the order they came."""
    yield from database.rows(
        "SELECT id, instruction FROM seed_tasks WHERE retracted_at IS NULL ORDER BY number"
    )


def _condition(wanted: TaskFilter) -> tuple[str, Row]:
    parts: list[tuple[str, Row]] = []
    if wanted.text is not None:
        parts.append(("instr(lower(instruction), lower(?)) > 0", (wanted.text,)))
    if wanted.is_classification is not None:
        parts.append(("is_classification = ?", (wanted.is_classification,)))
    if wanted.submitted_by is not None:
        parts.append(("submitted_by = ?", (wanted.submitted_by,)))
    if wanted.is_retracted is not None:
        parts.append((f"retracted_at IS {'NOT ' if wanted.is_retracted else ''}NULL", ()))
    sql = " AND ".join(part for part, _ in parts) or "TRUE"
    return sql, tuple(value for _, values in parts for value in values)


def _task(row: Row) -> PoolTask:
    instances = tuple(Instance(given, output) for given, output in json.loads(row[5]))
    task = SeedTask(row[1], row[2], row[3], instances, bool(row[4]))
    return PoolTask(row[0], task, row[6], row[7], row[8])
