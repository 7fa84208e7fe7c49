"""The service's SQLite database: one writer at a time, durable at each commit, readable meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from pipeline.errors import EvoloomError, UsageError

Row: TypeAlias = tuple[Any, ...]
VERSION = 1
"""Of the schema, in SQLite's `user_version`."""
_BUSY_WAIT_S = 30.0
_MOST_IDLE = 8
"""Reading connections kept for the next reader; one more is closed after its use."""


class ServiceDatabaseError(EvoloomError):
    """Raised when the service's database cannot be read or written."""


def service_path(store_path: Path) -> Path:
    """The service's own database."""
    return store_path.with_name(f"{store_path.name}.service.sqlite")


class ServiceDatabase:
    """The service's database, made where there is none; a context manager.

    May be used from several threads and opened by several processes: each read has a connection to
    itself, writes wait for each other.
    """

    def __init__(self, store_path: Path) -> None:
        """
        Raises:
            UsageError: the place cannot be written, or the file is no database of the service.
        """
        self.path = service_path(store_path)
        self._writing = threading.RLock()
        self._pooling = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._is_closed = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._migrate()
        except (OSError, sqlite3.Error) as exc:
            raise UsageError(f"{self.path}: cannot be opened: {exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def rows(self, sql: str, parameters: Row = ()) -> list[Row]:
        """All rows of a query, of what is committed."""
        try:
            with self._reader() as connection:
                return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as exc:
            raise ServiceDatabaseError(f"{self.path}: cannot be read: {exc}") from exc

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writing connection; commits, durably, on leaving without an exception.

        Raises:
            ServiceDatabaseError: the disk is full, or another process has been writing too long.
        """
        with self._writing:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writer
                except BaseException:
                    self._writer.execute("ROLLBACK")
                    raise
                self._writer.execute("COMMIT")
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as exc:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise ServiceDatabaseError(f"{self.path}: cannot be written: {exc}") from exc

    def revision(self) -> int:
        """The number of the last change of a seed task or seed set."""
        return int(self.rows("SELECT number FROM revision")[0][0])

    def close(self) -> None:
        """Close every connection; one that is being read on when its reader is done."""
        with self._pooling:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in [*idle, self._writer]:
            connection.close()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile. Not one a thread: threads of a service come
        and go, and what they leave open would stay open."""
        with self._pooling:
            if self._is_closed:
                raise sqlite3.ProgrammingError("the database was closed")
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connect()
        try:
            yield connection
        finally:
            self._put_back(connection)

    def _put_back(self, connection: sqlite3.Connection) -> None:
        with self._pooling:
            if not self._is_closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_WAIT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        # An answer 201 must outlive a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _migrate(self) -> None:
        with self.transaction() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise UsageError(
                    f"{self.path}: version {version} was written by a newer evoloom; this one knows "
                    f"versions up to {VERSION}. Use the newer one"
                )
            if version == VERSION:
                return
            if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise UsageError(f"{self.path}: is a SQLite file of something else")
            script = resources.files("store.service").joinpath("schema.sql").read_text("utf-8")
            for statement in script.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")


def next_revision(connection: sqlite3.Connection) -> int:
    """The number of the change that the transaction makes."""
    (number,) = connection.execute(
        "UPDATE revision SET number = number + 1 RETURNING number"
    ).fetchone()
    return int(number)


def now_utc() -> str:
    """The time as the database keeps it: ISO 8601 in UTC with milliseconds; sorts by age."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
