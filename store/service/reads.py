"""What the service reads from the published snapshot: SQL in, rows as JSON values out."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from store.snapshot import SnapshotReader, snapshot_link

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 4
"""Queries that are in DuckDB together; more would wait for the same cores there."""


class Reads:
    """Reads one store's newest snapshot, from any thread."""

    def __init__(self, store_path: Path) -> None:
        self._link = snapshot_link(store_path)
        self._reader = SnapshotReader(store_path)
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._kinds: tuple[str | None, dict[str, str]] = (None, {})

    def version(self) -> str | None:
        """What the newest snapshot is known by: another after each publishing; None before the
        first."""
        try:
            # The link is moved when a snapshot is complete; asking it opens nothing.
            target = self._link.readlink().name
            return f"{target.rsplit('-', 1)[-1].split('.')[0]}-{self._link.stat().st_mtime_ns:x}"
        except OSError:
            return None

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the newest snapshot.

        Raises:
            UsageError: nothing has been published yet.
        """
        with self._slots, self._reader.current() as connection:
            yield connection

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows of a query, as objects.

        Raises:
            UsageError: nothing has been published yet.
        """
        with self.connection() as connection:
            return fetch(connection, sql, parameters)

    def kinds(
        self, connection: duckdb.DuckDBPyConnection, run_ids: Collection[str]
    ) -> dict[str, str]:
        """The kind of each run, at least of these; asked for about once for each snapshot."""
        version, (known, kinds) = self.version(), self._kinds
        # A connection may be older or newer than the version by one publishing.
        if version != known or not kinds.keys() >= set(run_ids):
            kinds = dict(connection.execute("SELECT run_id, kind FROM runs").fetchall())
            self._kinds = (version, kinds)
        return kinds

    def close(self) -> None:
        """Let go of the snapshot."""
        self._reader.close()


def fetch(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """All rows of a query, as objects."""
    cursor = connection.execute(sql, list(parameters))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def utc_text(moment: datetime | None) -> str | None:
    """A time of the store (UTC, without a zone) as the service writes it."""
    return None if moment is None else moment.isoformat(timespec="milliseconds") + "Z"
