"""A run directory that is written in one go by a command without a teacher: an import, a dataset
version. It appears under its name complete, or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.errors import UsageError
from pipeline.records import Batch
from store import checked_lines
from store.run_directory import runs_directory, spool_path
from store.run_names import parse_version
from store.run_writer import check_new_run
from store.spool import Spool

_WRITTEN_TOGETHER = 1000
_BETWEEN_MAKING_AND_LOCKING_S = 60.0


class NewRun:
    """A run directory in the making; a context manager.

    What is not finished when the context ends is removed again, so that a command that fails or is
    killed leaves nothing that looks like a run.
    """

    def __init__(self, store_path: Path, run_id: str) -> None:
        """
        Raises:
            RunExistsError: there is a run with this id.
            UsageError: the id cannot be a folder's name, or the place cannot be written.
        """
        check_new_run(store_path, run_id, is_version=parse_version(run_id) is not None)
        self.run_id = run_id
        self._target = runs_directory(store_path) / run_id
        self.path = self._target.with_name(f".{run_id}.{os.getpid()}.tmp")
        """Where further files of the run may be written until it is finished."""
        self._started_at = datetime.now(UTC)
        try:
            _remove_left_behind(self.path.parent)
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._spool = Spool(spool_path(self.path))
        except OSError as exc:
            raise UsageError(f"{self.path}: cannot be written: {exc.strerror or exc}") from exc
        self._waiting: list[Batch] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.path.exists():
            with suppress(OSError):
                self._spool.close()
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def write(self, batches: Sequence[Batch]) -> None:
        """Append batches; those of a stream come in ascending position."""
        self._waiting += batches
        if len(self._waiting) >= _WRITTEN_TOGETHER:
            self._flush()

    def finish(self, manifest: Mapping[str, Any]) -> Path:
        """Give the run its manifest and its name, as a completed one whose ingest is pending.

        `run_id`, `created_at` and `format` are filled in.

        Raises:
            UsageError: the disk is full, or the run has come into being meanwhile.
        """
        now = datetime.now(UTC)
        value = {
            "format": 1,
            "run_id": self.run_id,
            "created_at": _utc(self._started_at),
            "config": {},
            **manifest,
        }
        state = {
            "state": "completed",
            "reason": None,
            "updated_at": _utc(now),
            "started_at": _utc(self._started_at),
            "finished_at": _utc(now),
            "elapsed_s": round((now - self._started_at).total_seconds(), 3),
            "ingest_pending": True,
            "pid": os.getpid(),
        }
        try:
            self._flush()
            self._spool.close()
            for name, content in (("state.json", state), ("manifest.json", value)):
                data = json.dumps(content, ensure_ascii=False, indent=2).encode(
                    "utf-8", "surrogatepass"
                )
                checked_lines.write_atomically(self.path / name, data + b"\n")
            os.rename(self.path, self._target)
            checked_lines.fsync_directory(self._target.parent)
        except OSError as exc:
            raise UsageError(f"{self._target}: cannot be written: {exc.strerror or exc}") from exc
        return self._target

    def _flush(self) -> None:
        self._spool.write(self._waiting)
        self._waiting = []


def _remove_left_behind(runs_dir: Path) -> None:
    """Remove what killed processes were making: folders that nobody holds."""
    for folder in runs_dir.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < _BETWEEN_MAKING_AND_LOCKING_S:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
