"""The only place that opens the live DuckDB file.

A DuckDB file that one process has open for writing cannot be opened by another at all, and one that
somebody reads cannot be written. So a write is short: take the flock on `<store>.lock`, open, write,
CHECKPOINT, close. The flock makes evoloom's own processes wait for each other; DuckDB's own lock
tells that somebody else (a notebook, a BI tool) holds the file.
"""

from __future__ import annotations

import fcntl
import glob
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import duckdb

from pipeline.errors import EvoloomError, UsageError
from store import checked_lines
from store.run_directory import runs_directory
from store.schema import migrate

FILE_WAIT_S = 2.0
"""How long to wait for a live file that another program has open, in seconds."""
LOCK_WAIT_S = 60.0
"""How long to wait for another evoloom process that is writing, in seconds."""
INGEST_COMMAND = "evoloom store ingest"
"""What a user types to ingest what is pending, with nothing else to run."""

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # Nothing may be downloaded behind the user's back, and nothing here needs an extension.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_HOLDER = re.compile(r"held in (.+?) \(PID (\d+)\)")
_T = TypeVar("_T")


class StoreBusyError(EvoloomError):
    """Raised when another process has the live file; what was to be ingested stays pending."""


class StoreError(EvoloomError):
    """Raised when the live file cannot be read or written for any other reason."""


def lock_path(store_path: Path) -> Path:
    """The file whose flock admits one writer."""
    return store_path.with_name(f"{store_path.name}.lock")


def wal_path(database: Path) -> Path:
    """DuckDB's write-ahead log beside a database."""
    return database.with_name(f"{database.name}.wal")


def temporary_path(store_path: Path, purpose: str) -> Path:
    """Where a file is made that will replace another; only the holder of `writer_lock` makes one."""
    return store_path.with_name(f".{store_path.name}.{purpose}.tmp")


@contextmanager
def writer_lock(store_path: Path, purpose: str, wait_s: float | None = None) -> Iterator[None]:
    """Hold the store's flock.

    Raises:
        StoreBusyError: another evoloom process kept it for `wait_s` (LOCK_WAIT_S).
        UsageError: the lock file cannot be made.
    """
    path = lock_path(store_path)
    patience = LOCK_WAIT_S if wait_s is None else wait_s
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise UsageError(f"store {store_path}: cannot be written: {exc}") from exc
    try:
        if not _poll(lambda: _try_flock(descriptor), patience):
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
            raise StoreBusyError(
                f"{store_path}: another evoloom process ({holder}) has been writing for "
                f"{patience:g} s. Nothing is lost: run directories hold everything. Wait until it "
                f"ends, or stop it, then type `{INGEST_COMMAND} --store {store_path}`"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"PID {os.getpid()}, {purpose}\n".encode(), 0)
        _remove_leftovers(store_path)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def open_live(
    store_path: Path, *, pending: Sequence[str] = (), wait_s: float | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the live file for writing, migrated; the caller holds `writer_lock`.

    On leaving without an exception it is checkpointed; it is closed in any case.

    Args:
        pending: run ids that wait to be ingested, for the message of StoreBusyError.
        wait_s: patience with a program that has the file open (FILE_WAIT_S).

    Raises:
        StoreBusyError: another process has the file open.
        UsageError: the file is no evoloom store, or one from a newer version.
        StoreError: DuckDB failed.
    """
    if not store_path.exists() or store_path.stat().st_size == 0:
        _create(store_path)
    connection = _connect_patiently(store_path, pending, wait_s)
    try:
        migrate(connection, store_path)
        yield connection
        connection.execute("CHECKPOINT")
    except duckdb.Error as exc:
        raise StoreError(
            f"{store_path}: DuckDB failed: {exc}. Run directories still hold everything; "
            f"type `evoloom store rebuild --store {store_path}` to make the file again from them"
        ) from exc
    finally:
        connection.close()


def check_store(store_path: Path) -> None:
    """Check that a store which is there can be written by this evoloom; one that is held passes.

    Raises:
        UsageError: the file is no evoloom store, one from a newer version, or cannot have this name.
    """
    if store_path.is_dir():
        raise UsageError(f"store {store_path}: is a directory; name a file, such as evoloom.duckdb")
    if "?" in str(store_path):
        raise UsageError(
            f"store {store_path}: DuckDB does not find its log beside a file with a '?' in its path; "
            "name the store otherwise"
        )
    if not store_path.exists():
        return
    with (
        suppress(StoreBusyError),
        writer_lock(store_path, "check", wait_s=0),
        open_live(store_path, wait_s=0),
    ):
        pass


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit on leaving, roll back on any exception."""
    connection.begin()
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def create_database(path: Path, store_path: Path) -> duckdb.DuckDBPyConnection:
    """A new, migrated database at `path`, whatever was there before; the caller closes it."""
    remove_database(path)
    connection = duckdb.connect(path, config=_CONFIG)
    migrate(connection, store_path)
    return connection


def remove_database(path: Path) -> None:
    """Delete a database and its write-ahead log; the log first, since it must not outlive it."""
    wal_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def assert_no_wal(database: Path, store_path: Path) -> None:
    """Check that a closed database is whole without its log: a copy would lose what is in it.

    Raises:
        StoreBusyError: it has a log, so that somebody still has it open.
    """
    if wal_path(database).exists():
        raise StoreBusyError(
            f"{store_path}: still has a write-ahead log after being closed, so another connection of "
            "this process has it open; close that connection, then try again"
        )


@contextmanager
def hold_closed(store_path: Path) -> Iterator[None]:
    """Keep every other process from opening the live file while it is replaced.

    DuckDB locks a file it opens with a POSIX record lock; holding that one works on files that
    DuckDB itself refuses to open. A reader with the old file open would go on reading it, unnoticed;
    a writer would leave its log beside the new file.
    """
    try:
        descriptor = os.open(store_path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as exc:
            raise StoreBusyError(busy_message(store_path, (), "")) from exc
        yield
    finally:
        os.close(descriptor)


def quoted(path: Path) -> str:
    """A path as a literal of SQL, for statements that take no parameter."""
    return "'" + str(path).replace("'", "''") + "'"


def fsync_file(path: Path) -> None:
    """Return when the file's content is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(store_path: Path) -> None:
    """Delete what a killed writer was making: nobody but the lock's holder can be at it."""
    for path in store_path.parent.glob(f".{glob.escape(store_path.name)}.*.tmp*"):
        path.unlink(missing_ok=True)


def _create(store_path: Path) -> None:
    # Made beside and renamed, so that a kill never leaves a file that DuckDB refuses to open. A log
    # without its database (somebody deleted that) must not be replayed into the new one.
    fresh = temporary_path(store_path, "new")
    try:
        create_database(fresh, store_path).close()
        fsync_file(fresh)
        wal_path(store_path).unlink(missing_ok=True)
        os.replace(fresh, store_path)
        checked_lines.fsync_directory(store_path.parent)
    except (OSError, duckdb.Error) as exc:
        raise StoreError(f"{store_path}: cannot be made: {exc}") from exc


def _connect_patiently(
    store_path: Path, pending: Sequence[str], wait_s: float | None
) -> duckdb.DuckDBPyConnection:
    patience = FILE_WAIT_S if wait_s is None else wait_s
    busy: list[duckdb.Error] = []

    def attempt() -> duckdb.DuckDBPyConnection | None:
        try:
            return duckdb.connect(store_path, config=_CONFIG)
        except duckdb.Error as exc:
            if not _means_busy(exc):
                raise
            busy[:] = [exc]
            return None

    try:
        connection = _poll(attempt, patience)
    except duckdb.Error as exc:
        raise UsageError(
            f"{store_path}: cannot be opened: {exc}. If it is damaged, type "
            f"`evoloom store rebuild --store {store_path}`; if it is no evoloom store, name another "
            "file with --store"
        ) from exc
    if connection is None:
        raise StoreBusyError(busy_message(store_path, pending, str(busy[0]))) from busy[0]
    return connection


def busy_message(store_path: Path, pending: Sequence[str], cause: str = "") -> str:
    """What is pending, what happens next, what to type."""
    match = _HOLDER.search(cause)
    holder = f"process {match[2]} ({match[1]})" if match else "another connection"
    named = ", ".join(pending[:5]) + (f" and {len(pending) - 5} more" if len(pending) > 5 else "")
    what = f"Not in it yet: {named}. " if pending else ""
    return (
        f"{store_path}: {holder} has the live file open. {what}Nothing is lost: "
        f"{runs_directory(store_path)} holds everything, and the next command that writes to the "
        "store ingests it. To do it now, close the file there (analysts open the snapshot, never the "
        f"live file), then type `{INGEST_COMMAND} --store {store_path}`"
    )


def _means_busy(exc: duckdb.Error) -> bool:
    text = str(exc)
    return "Could not set lock" in text or "with a different configuration" in text


def _try_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _poll(attempt: Callable[[], _T | None], patience_s: float) -> _T | None:
    """Call until something truthy comes back or patience ends; the last result."""
    deadline = time.monotonic() + patience_s
    pause = 0.01
    while True:
        result = attempt()
        if result or time.monotonic() >= deadline:
            return result
        time.sleep(pause)
        pause = min(0.2, pause * 2)
