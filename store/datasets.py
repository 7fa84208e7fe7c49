"""Dataset versions: immutable, named, hashed records of exactly which instances.

A version is a run directory of kind `dataset` whose run id is its name, `nightly@2026-11-21.1`. It
is written in one go and never again.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.records import Batch, InstanceRow, InstructionRow
from store.dataset_rows import STAGE, Collected, content_hash_of
from store.new_run import NewRun
from store.run_directory import is_run, read_manifest, runs_directory
from store.run_names import VersionId, list_taken, list_versions, parse_version

__all__ = [
    "CARD", "Created", "DatasetSummary", "check_name", "content_hash_of", "list_datasets",
    "read_card", "read_summary", "write_version",
]  # fmt: skip

CARD = "card.md"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What a version's manifest says of it; `created_at` is UTC."""

    run_id: str
    name: str
    version: str
    content_hash: str
    recipe: Mapping[str, Any]
    inputs: tuple[str, ...]
    instructions: int
    instances: int
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Created:
    """The version that holds what was asked for; `is_new` is False where there was one already."""

    summary: DatasetSummary
    is_new: bool


def check_name(store_path: Path, name: str) -> None:
    """Check that a dataset can have a name.

    Raises:
        UsageError: it cannot be one, or a run is called so.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"dataset name {name!r}: letters, digits, '.', '_' and '-' are allowed, 100 at most, the "
            "first a letter or digit; the version ('@2026-11-21.1') is added"
        )
    if is_run(store_path, name):
        raise UsageError(f"there is a run '{name}'; a dataset needs a name of its own")


def write_version(
    store_path: Path,
    name: str,
    collected: Collected,
    recipe: Mapping[str, Any],
    write_card: Callable[[str], str],
    curation: Mapping[str, Any] | None = None,
) -> Created:
    """Make the next version of a dataset, unless one of this name holds the same content.

    Args:
        recipe: what the rows were collected by, for the record.
        write_card: from the version's id to the text of its card.
        curation: what a recipe's steps did, for the record.

    Raises:
        UsageError: the name cannot be used, or the place cannot be written.
    """
    check_name(store_path, name)
    runs_dir = runs_directory(store_path)
    with _numbering(runs_dir):
        for version in reversed(list_versions(runs_dir, name)):
            summary = _read_summary(runs_dir, version)
            if summary.content_hash == collected.content_hash:
                return Created(summary, is_new=False)
        today = datetime.now(UTC).date()
        taken = [item.number for item in list_taken(runs_dir, name) if item.date == today]
        number = max(taken, default=0) + 1
        run_id = str(VersionId(name, today, number))
        with NewRun(store_path, run_id) as run:
            run.write(
                [
                    Batch(STAGE, row.position, instructions=(row,), instances=instances)
                    for row, instances in _all_rows(collected)
                ]
            )
            _write_text(run.path / CARD, write_card(run_id))
            manifest = _manifest(run_id, collected, recipe)
            run.finish({**manifest, "curation": curation} if curation else manifest)
    return Created(read_summary(runs_dir, run_id), is_new=True)


def _all_rows(collected: Collected) -> list[tuple[InstructionRow, tuple[InstanceRow, ...]]]:
    """Accepted and rejected rows by position; an instruction may have both kinds of instances."""
    found = {row.position: (row, instances) for row, instances in collected.rows}
    for row, rejected in collected.rejected:
        kept, instances = found.get(row.position, (row, ()))
        found[row.position] = (kept, (*instances, *rejected))
    return [found[position] for position in sorted(found)]


def _manifest(run_id: str, collected: Collected, recipe: Mapping[str, Any]) -> dict[str, Any]:
    name, _, version = run_id.partition("@")
    return {
        "kind": STAGE,
        "evoloom": version_of("evoloom"),
        "name": name,
        "version": version,
        "content_hash": collected.content_hash,
        "recipe": dict(recipe),
        "inputs": [count.run_id for count in collected.inputs],
        "instructions": len(collected.rows),
        "instances": collected.instances,
        "counts": [asdict(count) for count in collected.inputs],
        "shuffled": collected.is_shuffled,
    }


def list_datasets(store_path: Path, name: str | None = None) -> list[DatasetSummary]:
    """The versions of a store, of one dataset or of all, the oldest of each first."""
    runs_dir = runs_directory(store_path)
    return [_read_summary(runs_dir, version) for version in list_versions(runs_dir, name)]


def read_summary(runs_dir: Path, name: str) -> DatasetSummary:
    """A version by its id, or the newest of a name.

    Raises:
        UsageError: there is none; the message lists the versions there are.
        DamagedRunError: its manifest cannot be read.
    """
    version = parse_version(name)
    versions = list_versions(runs_dir, version.name if version else name)
    if version is None and versions:
        version = versions[-1]
    if version is None or version not in versions:
        there = ", ".join(map(str, list_versions(runs_dir)[-20:]))
        there = there or "none; `evoloom datasets create` makes one"
        raise UsageError(f"no dataset version {name!r} in {runs_dir}; there: {there}")
    return _read_summary(runs_dir, version)


def _read_summary(runs_dir: Path, version: VersionId) -> DatasetSummary:
    run_id = str(version)
    manifest = read_manifest(runs_dir / run_id)
    raw = manifest.raw
    return DatasetSummary(
        run_id,
        raw["name"],
        raw["version"],
        raw["content_hash"],
        raw["recipe"],
        tuple(raw["inputs"]),
        raw["instructions"],
        raw["instances"],
        manifest.created_at,
    )


def read_card(runs_dir: Path, run_id: str) -> str:
    """The dataset card that was written with a version.

    Raises:
        UsageError: it is not there any more.
    """
    path = runs_dir / run_id / CARD
    try:
        return path.read_text("utf-8")
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def _write_text(path: Path, text: str) -> None:
    with path.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _numbering(runs_dir: Path) -> Iterator[None]:
    """Let one process at a time choose a version's number."""
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(runs_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise UsageError(f"{runs_dir}: cannot be written: {exc.strerror or exc}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
