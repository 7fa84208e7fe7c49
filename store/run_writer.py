"""A run directory as the run itself sees it: created whole, held by one process, appended to."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.errors import EvoloomError, UsageError
from store import checked_lines
from store.database import check_store
from store.journal import FileJournal
from store.run_directory import (
    find_runs,
    read_manifest,
    read_state,
    refuse_pruned,
    runs_directory,
    spool_path,
)
from store.run_names import list_versions
from store.spool import Spool

JOURNAL = "journal"
PROGRESS = "progress.jsonl"
AGAINST = "novelty_against.jsonl"
SOURCE = "source.jsonl"
_TAKE_ATTEMPTS = 3
_TAKE_PAUSE_S = 0.02


class RunTakenError(EvoloomError):
    """Raised when another process holds the run; the message names it."""


class RunExistsError(UsageError):
    """Raised when a run id is given that a run has already."""


_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")


def check_new_run(store_path: Path, run_id: str, *, is_version: bool = False) -> None:
    """Check, before anything is started or paid for, that a run can be made and stored.

    Args:
        is_version: whether the run is a dataset version, whose id holds an '@'.

    Raises:
        RunExistsError: there is a run with this id.
        UsageError: the id cannot be a folder's name or would be taken for a dataset, the place cannot
            be written, the store is no evoloom store or from a newer version.
    """
    if not _RUN_ID.fullmatch(run_id) or ("@" in run_id and not is_version):
        raise UsageError(
            f"run id {run_id!r}: letters, digits, '.', '_' and '-' are allowed, 128 at most, the first "
            "a letter or digit; '@' stands in the ids of dataset versions only"
        )
    if (runs_directory(store_path) / run_id).exists():
        raise _exists(run_id)
    if versions := list_versions(runs_directory(store_path), run_id):
        raise UsageError(
            f"run id {run_id!r}: there is a dataset of this name ({versions[-1]} is its newest "
            "version), which the run would hide; name the run otherwise"
        )
    place = runs_directory(store_path)
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"store {store_path}: {place} is not a directory that can be written")
    check_store(store_path)


def _exists(run_id: str) -> RunExistsError:
    return RunExistsError(
        f"there is a run '{run_id}' already; `evoloom resume {run_id}` goes on with it"
    )


def create_run(
    store_path: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> Path:
    """Make a run directory with its manifest and further files, all or nothing.

    Raises:
        RunExistsError: there is a run with this id.
        UsageError: the id cannot be a folder's name, or the place cannot be written.
    """
    check_new_run(store_path, str(manifest["run_id"]))
    run_dir = runs_directory(store_path) / str(manifest["run_id"])
    temporary = run_dir.with_name(f".{run_dir.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name, data in {**(files or {}), "manifest.json": _json(manifest)}.items():
            checked_lines.write_atomically(temporary / name, data)
        os.rename(temporary, run_dir)
        checked_lines.fsync_directory(run_dir.parent)
    except OSError as exc:
        shutil.rmtree(temporary, ignore_errors=True)
        if run_dir.exists():
            raise _exists(run_dir.name) from exc
        raise UsageError(f"store {store_path}: cannot write {run_dir}: {exc.strerror}") from exc
    return run_dir


class HeldRun:
    """A run directory that this process alone may write; a context manager."""

    def __init__(self, store_path: Path, run_id: str) -> None:
        """
        Raises:
            UsageError: there is no such run.
            RunTakenError: another process holds it.
            PrunedRunError: its journal was pruned; such a run has ended, and nothing is written there.
            DamagedRunError, DamagedFileError: its files cannot be read.
        """
        find_runs(runs_directory(store_path), [run_id])
        self.path = runs_directory(store_path) / run_id
        self._lock = _take(self.path, run_id)
        try:
            refuse_pruned(self.path, "be executed")
            self.manifest = read_manifest(self.path).raw
            self.journal = FileJournal(self.path / JOURNAL)
            self.spool = Spool(spool_path(self.path))
            self._progress = _open_progress(self.path / PROGRESS)
        except BaseException:
            os.close(self._lock)
            raise
        state = read_state(self.path)
        self._started_at = state.started_at
        self._elapsed_before = state.elapsed_s or 0.0
        self._since = time.monotonic()

    def __enter__(self) -> HeldRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError) if error is not None else nullcontext():  # the first error is told
            self.close()

    @property
    def elapsed_s(self) -> float:
        """Seconds that the run has been executed for, over all its resumes."""
        return self._elapsed_before + time.monotonic() - self._since

    def write_state(
        self, state: str, reason: str | None = None, *, ingest_pending: bool = True
    ) -> None:
        """Note what has become of the run; `ingest_pending` until the store holds all of it."""
        now = datetime.now(UTC).replace(tzinfo=None)
        self._started_at = self._started_at or now
        finished = state not in ("running", "paused", "queued")
        value = {
            "state": state,
            "reason": reason,
            "updated_at": _utc(now),
            "started_at": _utc(self._started_at),
            "finished_at": _utc(now) if finished else None,
            "elapsed_s": round(self.elapsed_s, 3),
            "ingest_pending": ingest_pending,
            "pid": os.getpid(),
        }
        checked_lines.write_atomically(self.path / "state.json", _json(value))

    def log_progress(self, record: Mapping[str, Any]) -> None:
        """Append a progress record for whoever watches; it is never read back by the run."""
        # Nothing depends on it, not on a full disk either; the journal says so before it matters.
        with suppress(OSError):
            self._progress.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Make the spool durable and let go of the run."""
        try:
            self.spool.close()
        finally:
            self.journal.close()
            self._progress.close()
            os.close(self._lock)


def follow_progress(run_dir: Path) -> Iterator[dict[str, Any]]:
    """Progress records from now on, as they come; an empty one where there is no new one yet."""
    path = run_dir / PROGRESS
    offset = path.stat().st_size if path.exists() else 0
    while True:
        if path.exists():
            with path.open("rb") as file:
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    offset += len(line)
                    # What a kill left of a record is nobody's loss.
                    with suppress(ValueError):
                        yield json.loads(line)
        yield {}


def _open_progress(path: Path) -> FileIO:
    """Open for appending; what a kill left of a record becomes a line of its own."""
    is_torn = False
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            is_torn = file.read(1) != b"\n"
    progress = path.open("ab", buffering=0)
    if is_torn:
        with suppress(OSError):  # as in `log_progress`
            progress.write(b"\n")
    return progress


@contextmanager
def taken(run_dir: Path) -> Iterator[None]:
    """Keep a run from being executed, without opening its files.

    Raises:
        RunTakenError: another process executes it.
    """
    lock = _take(run_dir, run_dir.name)
    try:
        yield
    finally:
        os.close(lock)


def _take(run_dir: Path, run_id: str) -> int:
    lock = os.open(run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    for attempt in range(_TAKE_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as exc:
            if attempt < _TAKE_ATTEMPTS - 1:
                # `is_held` of another process takes the lock for an instant, to look.
                time.sleep(_TAKE_PAUSE_S)
                continue
            holder = os.pread(lock, 200, 0).decode("utf-8", "replace").strip()
            os.close(lock)
            raise RunTakenError(
                f"run {run_id} is being executed by {holder or 'another process'}; `evoloom resume "
                f"{run_id} --wait` follows it and resumes if anything is left"
            ) from exc
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
    return lock


def is_held(run_dir: Path) -> bool:
    """Whether a process executes the run at this moment."""
    with suppress(FileNotFoundError):
        lock = os.open(run_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
    return False


def _utc(moment: datetime) -> str:
    return moment.replace(tzinfo=UTC).isoformat(timespec="milliseconds")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "surrogatepass") + b"\n"
