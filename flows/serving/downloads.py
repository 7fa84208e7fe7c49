"""Exports as files to be downloaded: made once for what a run holds, kept while the service lives."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path

from flows.serving.commands import run_command
from store.exporting.formats import FORMATS
from store.run_directory import read_state, runs_directory, spool_path

_MOST_KEPT = 32
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Download:
    """A file to be sent. `etag` changes whenever the content may."""

    path: Path
    filename: str
    media_type: str
    etag: str


class Downloads:
    """Makes exports of a store's runs in a folder of its own; may be used from several threads."""

    def __init__(self, store_path: Path) -> None:
        self._store_path = store_path
        self._folder = Path(tempfile.mkdtemp(prefix="evoloom-exports-"))
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._kept: dict[str, Path] = {}

    def make(self, run_id: str, format: str) -> Download:
        """The export of a run or a dataset version.

        Raises:
            UsageError: it cannot be exported in this format.
        """
        run_dir = runs_directory(self._store_path) / run_id
        spool = spool_path(run_dir)
        state = read_state(run_dir)
        size = spool.stat().st_size if spool.exists() else 0
        about = f"{run_id}/{format}/{size}/{state.state}/{state.updated_at}"
        key = hashlib.sha256(about.encode()).hexdigest()[:24]
        suffix = suffix_of(format)
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:  # who asks for the same waits for it instead of making it again
            path = self._kept.get(key)
            if path is None or not path.exists():
                path = self._export(run_id, format, key, suffix)
                self._keep(key, path)
        media = {".zip": "application/zip", ".parquet": "application/vnd.apache.parquet"}
        return Download(
            path, f"{run_id}{suffix}", media.get(suffix, "application/x-ndjson"), f'"{key}"'
        )

    def close(self) -> None:
        """Delete what was made."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _export(self, run_id: str, format: str, key: str, suffix: str) -> Path:
        target = self._folder / f"{key}{suffix}"
        is_folder = FORMATS[format].is_directory
        # LLaMA-Factory's files are called as their folder is.
        out = self._folder / key / run_id if is_folder else target
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            run_command(
                "export", run_id, "--format", format, "--out", str(out), "--store",
                str(self._store_path),
            )  # fmt: skip
            if is_folder:
                _zip(out, target)
        finally:
            if is_folder:
                shutil.rmtree(out.parent, ignore_errors=True)
        return target

    def _keep(self, key: str, path: Path) -> None:
        with self._lock:
            self._kept[key] = path
            while len(self._kept) > _MOST_KEPT:
                oldest = next(iter(self._kept))
                # Who is being sent it has it open.
                self._kept.pop(oldest).unlink(missing_ok=True)
                self._making.pop(oldest, None)


def suffix_of(format: str) -> str:
    """The ending of a download's name."""
    if FORMATS[format].is_directory:
        return ".zip"
    return ".parquet" if FORMATS[format].is_parquet else ".jsonl"


def _zip(folder: Path, target: Path) -> None:
    """The same bytes for the same files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
                info = zipfile.ZipInfo(name, _ZIP_TIME)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                with path.open("rb") as source, archive.open(info, "w") as member:
                    shutil.copyfileobj(source, member)
