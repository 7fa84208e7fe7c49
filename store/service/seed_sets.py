"""Seed sets: named selections of the pool that a run starts from. A set never changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from store.service.database import Row, ServiceDatabase, next_revision, now_utc


@dataclass(frozen=True, slots=True)
class SeedSet:
    """A set; `size` counts its members, `active` those that have not been retracted since."""

    number: int
    name: str
    description: str
    created_by: str
    created_at: str
    size: int
    active: int


def insert_set(
    connection: sqlite3.Connection,
    name: str,
    description: str,
    task_ids: Sequence[str],
    created_by: str,
) -> None:
    """Add a set.

    Raises:
        sqlite3.IntegrityError: there is one of this name.
    """
    connection.execute(
        "INSERT INTO seed_sets (name, description, created_by, created_at, revision) "
        "VALUES (?, ?, ?, ?, ?)",
        (name, description, created_by, now_utc(), next_revision(connection)),
    )
    connection.executemany(
        "INSERT INTO seed_set_members VALUES (?, ?, ?)",
        [(name, ordinal, task_id) for ordinal, task_id in enumerate(task_ids)],
    )


_SELECT = """
SELECT number, name, description, created_by, created_at,
  (SELECT count(*) FROM seed_set_members AS m WHERE m.name = s.name),
  (SELECT count(*) FROM seed_set_members AS m JOIN seed_tasks AS t ON t.id = m.seed_task_id
    WHERE m.name = s.name AND t.retracted_at IS NULL)
FROM seed_sets AS s
"""


def find_set(database: ServiceDatabase, name: str) -> SeedSet | None:
    """A set by its name."""
    rows = database.rows(f"{_SELECT} WHERE name = ?", (name,))
    return _set(rows[0]) if rows else None


def list_sets(database: ServiceDatabase, *, after: int = 0, limit: int) -> list[SeedSet]:
    """Sets in the order they were made, after the one with the number `after`."""
    rows = database.rows(f"{_SELECT} WHERE number > ? ORDER BY number LIMIT ?", (after, limit))
    return [_set(row) for row in rows]


def list_members(
    database: ServiceDatabase, name: str, *, after: int = -1, limit: int = -1
) -> list[tuple[int, str]]:
    """(ordinal, task id) of a set's members, retracted ones too; all of them without a limit."""
    return [
        (row[0], row[1])
        for row in database.rows(
            "SELECT ordinal, seed_task_id FROM seed_set_members WHERE name = ? AND ordinal > ? "
            "ORDER BY ordinal LIMIT ?",
            (name, after, limit),
        )
    ]


def _set(row: Row) -> SeedSet:
    return SeedSet(*row)
