"""The runs of a store as the service lists them: read from run directories, little at a time.

A manifest never changes and is read once; a state is read again when its file has changed. What was
accepted comes from the snapshot, of a run that is going on from its last progress record.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.errors import EvoloomError
from store.run_directory import read_manifest, read_state, runs_directory
from store.run_writer import PROGRESS, is_held
from store.service.reads import utc_text

_FRESH_S = 0.5
_TAIL_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class IndexedRun:
    """One run; times are UTC. `state` is as the run wrote it: one that was killed says `running`."""

    run_id: str
    kind: str
    state: str
    reason: str | None
    target: int | None
    model: str | None
    run_seed: int | None
    rederived_from: str | None
    ingest_pending: bool
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime | None
    elapsed_s: float | None


@dataclass(slots=True)
class _Entry:
    stamp: tuple[int, int]
    run: IndexedRun


class RunsIndex:
    """The runs of one store, refreshed when asked for; may be used from several threads."""

    def __init__(self, store_path: Path) -> None:
        self._runs_dir = runs_directory(store_path)
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._manifests: dict[str, tuple[tuple[int, int], Mapping[str, Any]]] = {}
        self._runs: tuple[IndexedRun, ...] = ()
        self._looked_at = float("-inf")
        self._version = 0

    def all(self) -> tuple[int, tuple[IndexedRun, ...]]:
        """(a number that rises when something changes, all runs, the newest first), at most half a
        second old."""
        with self._lock:
            if time.monotonic() - self._looked_at >= _FRESH_S:
                self._refresh()
            return self._version, self._runs

    def one(self, run_id: str) -> IndexedRun | None:
        """A run as it is now; `run_id` must be fit to name a folder."""
        with self._lock:
            return self._read(run_id)

    def path(self, run_id: str) -> Path:
        """The run directory."""
        return self._runs_dir / run_id

    def _refresh(self) -> None:
        found: list[IndexedRun] = []
        with suppress(FileNotFoundError), os.scandir(self._runs_dir) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
            found = [run for name in names if (run := self._read(name)) is not None]
        found.sort(key=lambda run: (utc_text(run.created_at) or "", run.run_id), reverse=True)
        runs = tuple(found)
        if runs != self._runs:
            self._version += 1
            self._runs = runs
        self._looked_at = time.monotonic()

    def _read(self, run_id: str) -> IndexedRun | None:
        folder = self._runs_dir / run_id
        made = _stamp(folder / "manifest.json")
        if made is None:
            self._entries.pop(run_id, None)
            return None
        stamp = _stamp(folder / "state.json") or (0, 0)
        known = self._entries.get(run_id)
        manifest = self._manifests.get(run_id)
        if known and known.stamp == stamp and manifest and manifest[0] == made:
            return known.run
        try:
            if manifest is None or manifest[0] != made:
                raw = read_manifest(folder)
                about = {
                    "kind": raw.kind, "target": raw.target, "model": raw.raw.get("model"),
                    "run_seed": raw.run_seed, "rederived_from": raw.rederived_from,
                    "created_at": raw.created_at,
                }  # fmt: skip
                manifest = self._manifests[run_id] = (made, about)
            state = read_state(folder)
        except (EvoloomError, OSError):
            return None  # `evoloom store check` says what is wrong with it
        run = IndexedRun(
            run_id=run_id,
            state=state.state,
            reason=state.reason,
            ingest_pending=state.ingest_pending,
            started_at=state.started_at,
            finished_at=state.finished_at,
            updated_at=state.updated_at,
            elapsed_s=state.elapsed_s,
            **manifest[1],
        )
        self._entries[run_id] = _Entry(stamp, run)
        return run


def is_at_work(run_dir: Path) -> bool:
    """Whether a process executes the run at this moment."""
    return is_held(run_dir)


def last_progress(run_dir: Path) -> dict[str, Any] | None:
    """A run's newest progress record; None where there is none."""
    try:
        with (run_dir / PROGRESS).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        # What a kill left of a record is nobody's loss.
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                return record
    return None


def read_progress(run_dir: Path, offset: int) -> list[tuple[int, dict[str, Any]]]:
    """(byte after it, record) of the whole progress records from a byte on."""
    try:
        with (run_dir / PROGRESS).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset if offset <= size else 0)
            at, data = file.tell(), file.read()
    except FileNotFoundError:
        return []
    found = []
    for line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]:
        at += len(line) + 1
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                found.append((at, record))
    return found


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
