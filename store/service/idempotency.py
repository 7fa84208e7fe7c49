"""Answers that are given again to a request with the same `Idempotency-Key`.

A record is written in the transaction of what the request created: both are there, or neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from store.service.database import ServiceDatabase, now_utc


@dataclass(frozen=True, slots=True)
class Identity:
    """What a request is known by. `owner` is the id of the key that sent it; `fingerprint` a hash
    of what was asked for."""

    owner: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered."""

    status: int
    location: str | None
    body: bytes


class ReusedKeyError(Exception):
    """Raised when another request was sent with the same key before."""


def find_answer(connection: sqlite3.Connection, identity: Identity | None) -> Answer | None:
    """What was answered to this request before, if anything.

    Raises:
        ReusedKeyError: the key stands for another request.
    """
    return _find(lambda sql, values: connection.execute(sql, values).fetchall(), identity)


def read_answer(database: ServiceDatabase, identity: Identity | None) -> Answer | None:
    """As `find_answer`, outside a transaction: of what is committed."""
    return _find(database.rows, identity)


def _find(rows: Callable[..., list[Any]], identity: Identity | None) -> Answer | None:
    if identity is None:
        return None
    found = rows(
        "SELECT fingerprint, status, location, body FROM idempotency "
        "WHERE owner = ? AND idempotency_key = ?",
        (identity.owner, identity.key),
    )
    if not found:
        return None
    fingerprint, status, location, body = found[0]
    if fingerprint != identity.fingerprint:
        raise ReusedKeyError
    return Answer(status, location, body)


def remember(connection: sqlite3.Connection, identity: Identity | None, answer: Answer) -> None:
    """Note what is answered, in the transaction of what was created."""
    if identity is not None:
        connection.execute(
            "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?)",
            (identity.owner, identity.key, identity.fingerprint, answer.status, answer.location,
             answer.body, now_utc()),
        )  # fmt: skip


def forget_old(database: ServiceDatabase, hours: float) -> int:
    """Delete what is older; returns how many."""
    oldest = datetime.now(UTC) - timedelta(hours=hours)
    text = oldest.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with database.transaction() as connection:
        return connection.execute("DELETE FROM idempotency WHERE created_at < ?", (text,)).rowcount
