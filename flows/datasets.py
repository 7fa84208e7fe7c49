"""Making dataset versions, and exporting them or any run: what the CLI and the flows call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.dataset_cards import run_card, version_card
from flows.publishing import Published, publish_store
from pipeline.errors import UsageError
from store.database import check_store
from store.dataset_rows import STAGE, Collected, collect_accepted
from store.datasets import CARD, Created, check_name, read_card, write_version
from store.export import ExportFormat, ExportReport, export_run, export_student
from store.exporting.rows import ExportRow
from store.exporting.student import FORMAT as STUDENT
from store.run_directory import runs_directory
from store.run_names import resolve_run, resolve_runs
from store.run_rows import RunRows
from store.text import storable

ALL_ACCEPTED: dict[str, Any] = {
    "name": "all-accepted",
    "description": "every instance that these runs accepted; one that an earlier run has too is "
    "taken once",
}
"""The recipe of `datasets create`."""


@dataclass(frozen=True, slots=True)
class DatasetResult:
    """The version, what was collected for it, and what became of the store."""

    created: Created
    collected: Collected
    published: Published


def create_dataset(store_path: Path, name: str, inputs: Sequence[str]) -> DatasetResult:
    """Make a version of all that runs, imports or dataset versions have accepted.

    Raises:
        UsageError: an input is not there or not settled, or the name cannot be used.
        InvalidRowError: a row is not fit for training.
    """
    check_store(store_path)
    check_name(store_path, name)
    runs_dir = runs_directory(store_path)
    collected = collect_accepted(runs_dir, resolve_runs(runs_dir, inputs))
    created = write_version(
        store_path, name, collected, ALL_ACCEPTED,
        lambda run_id: storable(version_card(run_id, collected, ALL_ACCEPTED)),
    )  # fmt: skip
    return DatasetResult(created, collected, publish_store(store_path))


def export_dataset(
    store_path: Path,
    name: str,
    format: str,
    out: Path,
    *,
    validation: float | None = None,
    split_seed: int = 0,
) -> ExportReport:
    """Export a run, an import or a dataset version; a dataset's name means its newest version.

    Raises:
        UsageError: as `store.export.export_run` says.
        InvalidRowError: an accepted row is not fit for training.
    """
    runs_dir = runs_directory(store_path)
    run_id = resolve_run(runs_dir, name)
    if format == STUDENT:
        if validation is not None:
            raise UsageError(
                "--validation: `evoloom train` holds out a part of the format 'student' itself "
                "(training.held_out)"
            )
        return export_student(runs_dir / run_id, out)

    def write_card(run: RunRows, rows: Sequence[ExportRow]) -> str:
        if run.manifest.kind == STAGE and (runs_dir / run_id / CARD).exists():
            return read_card(runs_dir, run_id)
        return storable(run_card(run, rows))

    known: ExportFormat = format  # type: ignore[assignment]  # `export_run` refuses any other
    return export_run(
        runs_dir / run_id, known, out, validation=validation, split_seed=split_seed, card=write_card
    )
