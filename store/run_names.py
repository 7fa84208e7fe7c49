"""Names of runs as people give them: a run's id, a dataset version's, or a dataset's alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import UsageError
from store.run_directory import DamagedRunError, find_runs, list_run_ids, read_manifest

_VERSION = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)@(?P<date>\d{4}-\d\d-\d\d)\.(?P<number>[1-9]\d*)"
)
_DATASET = "dataset"
"""The kind of the runs that are dataset versions."""


class VersionId(NamedTuple):
    """The parts of `nightly@2026-11-21.1`; those of one name sort by age."""

    name: str
    date: date
    number: int

    def __str__(self) -> str:
        return f"{self.name}@{self.date}.{self.number}"


def parse_version(run_id: str) -> VersionId | None:
    """The parts of an id that has the form of a dataset version's; None for any other."""
    match = _VERSION.fullmatch(run_id)
    if match is None:
        return None
    try:
        day = date.fromisoformat(match["date"])
    except ValueError:
        return None
    return VersionId(match["name"], day, int(match["number"]))


def list_versions(runs_dir: Path, name: str | None = None) -> list[VersionId]:
    """The dataset versions in a folder of runs, of one name or of all, the oldest first."""
    return [
        version for version in list_taken(runs_dir, name) if _is_dataset(runs_dir / str(version))
    ]


def list_taken(runs_dir: Path, name: str | None = None) -> list[VersionId]:
    """The ids that have the form of a version's, whatever kind of run has them; ascending."""
    versions = (parse_version(run_id) for run_id in list_run_ids(runs_dir))
    return sorted(
        version for version in versions if version and (name is None or version.name == name)
    )


def _is_dataset(run_dir: Path) -> bool:
    """Whether a run with a version's id is one. Earlier evolooms let imports have such ids, too."""
    try:
        return read_manifest(run_dir).kind == _DATASET
    except (DamagedRunError, UsageError):
        return True  # whoever reads it says what is wrong with it


def is_known(runs_dir: Path, name: str) -> bool:
    """Whether `resolve_run` would find something."""
    return name in list_run_ids(runs_dir) or bool(list_versions(runs_dir, name))


def resolve_run(runs_dir: Path, name: str) -> str:
    """The run that is meant by a name: the one with this id, else the newest version of the dataset.

    Raises:
        UsageError: there is neither; the message lists the runs there are.
    """
    # Only a dataset's name can stand for another id; whatever else is looked for as it is.
    versions = [] if name in list_run_ids(runs_dir) else list_versions(runs_dir, name)
    if versions:
        return str(versions[-1])
    find_runs(runs_dir, [name])
    return name


def resolve_runs(runs_dir: Path, names: Sequence[str]) -> tuple[str, ...]:
    """`resolve_run` of each; what is named twice is meant once."""
    return tuple(dict.fromkeys(resolve_run(runs_dir, name) for name in names))
