"""Runs that were asked for over REST, and what the service has done about them.

What becomes of the run itself stands in its run directory; this is what the service must know before
there is one, and to go on after it was restarted.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from store.service.database import Row, ServiceDatabase, now_utc

RequestState: TypeAlias = Literal["queued", "started", "ended", "failed", "cancelled"]
"""`failed` and `cancelled`: there is no run directory and none is coming."""

_COLUMNS = (
    "run_id, method, seed_set, seeds, settings, requested_by, requested_at, state, reason, "
    "executor, flow_run_id, cancel_requested, updated_at"
)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that was asked for. `seeds` are the seed tasks as JSON Lines, where a set was named;
    `settings` as `pipeline.config.dump` gives them."""

    run_id: str
    method: str
    seed_set: str | None
    seeds: str | None
    settings: Mapping[str, Any]
    requested_by: str
    requested_at: str
    state: RequestState
    reason: str | None
    executor: str | None
    flow_run_id: str | None
    cancel_requested: bool
    updated_at: str


def insert_request(
    connection: sqlite3.Connection,
    *,
    run_id: str,
    method: str,
    seed_set: str | None,
    seeds: str | None,
    settings: Mapping[str, Any],
    requested_by: str,
) -> None:
    """Note that a run is wanted.

    Raises:
        sqlite3.IntegrityError: there is one with this id.
    """
    now = now_utc()
    connection.execute(
        "INSERT INTO run_requests (run_id, method, seed_set, seeds, settings, requested_by, "
        "requested_at, state, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?)",
        (run_id, method, seed_set, seeds, json.dumps(settings, ensure_ascii=False), requested_by,
         now, now),
    )  # fmt: skip


def update_request(
    connection: sqlite3.Connection,
    run_id: str,
    *,
    state: RequestState,
    reason: str | None = None,
    executor: str | None = None,
    flow_run_id: str | None = None,
) -> None:
    """Note what has become of a request; what executes it is kept unless it is named anew."""
    connection.execute(
        "UPDATE run_requests SET state = ?, reason = ?, executor = coalesce(?, executor), "
        "flow_run_id = coalesce(?, flow_run_id), updated_at = ? WHERE run_id = ?",
        (state, reason, executor, flow_run_id, now_utc(), run_id),
    )


def ask_to_cancel(connection: sqlite3.Connection, run_id: str) -> None:
    """Note that a run is to be stopped."""
    connection.execute(
        "UPDATE run_requests SET cancel_requested = 1, updated_at = ? WHERE run_id = ?",
        (now_utc(), run_id),
    )


def ask_to_resume(connection: sqlite3.Connection, run_id: str, settings: Mapping[str, Any]) -> None:
    """Put a run that has stopped into the queue again, with operational settings of now."""
    connection.execute(
        "UPDATE run_requests SET cancel_requested = 0, state = 'queued', reason = NULL, "
        "settings = ?, updated_at = ? WHERE run_id = ?",
        (json.dumps(settings, ensure_ascii=False), now_utc(), run_id),
    )


def find_request(database: ServiceDatabase, run_id: str) -> RunRequest | None:
    """The request of a run."""
    rows = database.rows(f"SELECT {_COLUMNS} FROM run_requests WHERE run_id = ?", (run_id,))
    return _request(rows[0]) if rows else None


def open_requests(database: ServiceDatabase) -> list[RunRequest]:
    """Requests whose run has not ended, the oldest first."""
    rows = database.rows(
        f"SELECT {_COLUMNS} FROM run_requests WHERE state IN ('queued', 'started') ORDER BY number"
    )
    return [_request(row) for row in rows]


def list_requests(database: ServiceDatabase) -> list[RunRequest]:
    """All requests without their seeds and settings, the oldest first."""
    columns = _COLUMNS.replace("seeds, settings", "NULL, '{}'")
    return [
        _request(row)
        for row in database.rows(f"SELECT {columns} FROM run_requests ORDER BY number")
    ]


def _request(row: Row) -> RunRequest:
    return RunRequest(
        row[0], row[1], row[2], row[3], json.loads(row[4]), row[5], row[6], row[7], row[8], row[9],
        row[10], bool(row[11]), row[12],
    )  # fmt: skip
