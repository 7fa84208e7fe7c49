"""A copy of everything that a store is: run directories, DuckDB, the service's database.

It may be taken while jobs write. The order of copying makes it consistent: DuckDB before the run
directories, since a projection may be older than what it is made from, never newer; of a run its
state, then its spool, then its journal, since what is derived must not outrun what it is derived
from. A run caught at work is in the copy as one that was killed: `resume` goes on with it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from pipeline.errors import UsageError
from store import checked_lines
from store.database import StoreBusyError, StoreError, fsync_file
from store.live_copy import copy_live
from store.pruning import JOURNALS
from store.run_directory import PRUNED, list_run_ids, runs_directory, spool_path
from store.run_writer import JOURNAL
from store.schema import evoloom_version, latest_version
from store.service.database import service_path
from store.snapshot import read_snapshot

ABOUT = "backup.json"
_ARCHIVES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz"}
_NOT_COPIED = frozenset({"lock", ".settings.json", "stop", "end.json"})
"""What is there only while a run is executed: its lock, and how a training talks to its processes."""
_CHECKPOINTS = "checkpoints"
_CHECKPOINT_PASSES = 10


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What is in a backup. `database` says where its DuckDB file comes from: `live`, `snapshot` where
    another program had the live file open, or `none` where there is neither."""

    path: Path
    store: str
    taken_at: str
    runs: int
    bytes: int
    database: str
    has_service: bool


def back_up(store_path: Path, target: Path, *, wait_s: float | None = None) -> BackupReport:
    """Copy a store into a new folder, or into an archive if `target` ends in .tar, .tar.gz or .tgz.

    The target appears complete or not at all.

    Raises:
        UsageError: there is no store, or something has the target's name already.
        StoreError: the copy cannot be written.
    """
    if not store_path.exists() and not list_run_ids(runs_directory(store_path)):
        raise UsageError(f"store {store_path}: there is nothing to back up; name one with --store")
    if os.path.lexists(target):
        raise UsageError(
            f"{target}: exists already; a backup never replaces anything. Name another"
        )
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent}: is no folder; make it first")
    mode = next((mode for end, mode in _ARCHIVES.items() if target.name.endswith(end)), None)
    folder = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    archive = target.with_name(f".{target.name}.{os.getpid()}.archive.tmp")
    try:
        folder.mkdir()
        report = _copy_all(store_path, folder, target, wait_s)
        if mode is None:
            os.rename(folder, target)
        else:
            with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]  # of the table
                tar.add(folder, arcname=".")
            fsync_file(archive)
            os.link(archive, target)  # fails where the name has been taken meanwhile
        checked_lines.fsync_directory(target.parent)
    except (OSError, sqlite3.Error, tarfile.TarError) as exc:
        raise StoreError(f"{target}: the backup cannot be written: {exc}") from exc
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        archive.unlink(missing_ok=True)
    return report


def _copy_all(store_path: Path, folder: Path, target: Path, wait_s: float | None) -> BackupReport:
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    copy = folder / store_path.name
    database = _copy_database(store_path, copy, wait_s)
    run_ids = list_run_ids(runs_directory(store_path))
    for run_id in run_ids:
        _copy_run(runs_directory(store_path) / run_id, runs_directory(copy) / run_id)
    # Last: what the service promised is written there first, and a request without its run is run.
    has_service = _copy_service(service_path(store_path), service_path(copy))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    report = BackupReport(
        target, store_path.name, taken_at, len(run_ids), size, database, has_service
    )
    about = {
        **asdict(report),
        "path": str(target.name),
        "evoloom_version": evoloom_version(),
        "schema_version": latest_version(),
        "restore": restore_hint(report),
    }
    checked_lines.write_atomically(folder / ABOUT, json.dumps(about, indent=2).encode() + b"\n")
    return report


def restore_hint(report: BackupReport) -> str:
    """How to make a store of a backup again, as commands; PLACE is an empty folder."""
    name = report.path.name
    is_archive = any(name.endswith(end) for end in _ARCHIVES)
    unpack = f"tar -xf {name} -C PLACE" if is_archive else f"cp -a {name}/. PLACE/"
    command = "rebuild" if report.database == "none" else "ingest"
    return f"{unpack} && evoloom store {command} --store PLACE/{report.store}"


def _copy_database(store_path: Path, copy: Path, wait_s: float | None) -> str:
    if not store_path.exists():
        return "none"
    try:
        copy_live(store_path, copy, wait_s=wait_s)
    except StoreBusyError:
        return _copy_snapshot(store_path, copy)
    return "live"


def _copy_snapshot(store_path: Path, copy: Path) -> str:
    """The newest snapshot as a live file: merely older, which the next ingest mends."""
    for _ in range(10):  # two publishes meanwhile remove the file
        try:
            shutil.copyfile(read_snapshot(store_path).path, copy)
        except FileNotFoundError:
            continue
        except UsageError:
            return "none"
        with duckdb.connect(copy) as connection:
            connection.execute("DELETE FROM snapshot")
            connection.execute("CHECKPOINT")
        fsync_file(copy)
        return "snapshot"
    raise StoreError(f"{store_path}: its snapshot is replaced faster than it can be copied")


def _copy_run(run_dir: Path, target: Path) -> None:
    target.mkdir(parents=True)
    ordered = [run_dir / "state.json", spool_path(run_dir), run_dir / JOURNAL]
    _copy_files(run_dir, target, [path for path in ordered if path.exists()])
    _copy_checkpoints(run_dir / _CHECKPOINTS, target / _CHECKPOINTS)
    # Listed after the checkpoints: a training drops them when its adapter is there.
    rest = sorted(path for path in _files(run_dir) if path not in ordered)
    # Where the run is pruned meanwhile its journal goes, and before that comes the record of it.
    _copy_files(run_dir, target, [*rest, run_dir / PRUNED])
    checked_lines.fsync_directory(target)


def _copy_files(run_dir: Path, target: Path, paths: Iterable[Path]) -> None:
    for path in paths:
        copy = target / path.relative_to(run_dir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(path, copy)
        except FileNotFoundError:
            if path.name not in (*JOURNALS, PRUNED):
                raise
            continue
        fsync_file(copy)


def _copy_checkpoints(folder: Path, target: Path) -> None:
    """Each checkpoint whole or not at all; a training makes new ones and drops old ones meanwhile."""
    for _ in range(_CHECKPOINT_PASSES):
        try:
            names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        except FileNotFoundError:  # no training, or one that has ended
            return
        missing = [
            name for name in names if not _is_temporary(name) and not (target / name).exists()
        ]
        # Where one was dropped meanwhile there may be a newer one.
        are_whole = [_copy_checkpoint(folder / name, target / name) for name in missing]
        if all(are_whole):
            return
    raise StoreError(f"{folder}: its checkpoints are replaced faster than they can be copied")


def _copy_checkpoint(folder: Path, target: Path) -> bool:
    """Copy one, unless it is dropped or replaced meanwhile; False where it was."""
    making = target.with_name(f".{target.name}.tmp")
    try:
        before = _identities(folder)
        if not before:  # what a kill left of one that was being dropped
            return True
        making.mkdir(parents=True)
        _copy_files(folder, making, before)
        is_whole = _identities(folder) == before
    except FileNotFoundError:
        is_whole = False
    if is_whole:
        making.rename(target)
        checked_lines.fsync_directory(target.parent)
    else:
        shutil.rmtree(making, ignore_errors=True)
    return is_whole


def _identities(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """The files of a folder, with what differs when one of them is replaced."""

    def fail(error: OSError) -> None:
        raise error  # `os.walk` passes over a folder that is gone

    found = {}
    for place, _, names in os.walk(folder, onerror=fail):
        for path in (Path(place, name) for name in sorted(names)):
            stat = path.stat()
            found[path] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


def _files(run_dir: Path) -> Iterator[Path]:
    """All that is copied of a run, apart from its checkpoints."""
    for folder, folders, names in os.walk(run_dir):
        at_top = Path(folder) == run_dir
        folders[:] = [
            name
            for name in folders
            if not _is_temporary(name) and not (at_top and name == _CHECKPOINTS)
        ]
        for name in names:
            path = Path(folder, name)
            if path.is_file() and name not in _NOT_COPIED and not _is_temporary(name):
                yield path


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".tmp")


def _copy_service(database: Path, copy: Path) -> bool:
    if not database.exists():
        return False
    with (
        closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as sink,
    ):
        source.backup(sink)
    fsync_file(copy)
    return True
