"""What a student is trained on: examples of a run, an import, a dataset version or an exported file,
split by lineage root."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.student.records import Example, read_examples
from pipeline.student.settings import TrainingSettings
from store.exporting.splitting import split_rows
from store.exporting.student import read_student_rows
from store.run_directory import runs_directory
from store.run_names import is_known, resolve_run


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Examples on both sides of the split, and what they are of."""

    name: str
    content_hash: str | None
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    preset: Mapping[str, Any] | None = None
    """Training settings that the dataset's recipe recommends."""


def load_training_data(store_path: Path, dataset: str, settings: TrainingSettings) -> TrainingData:
    """Read and split what is trained on. A path is a file that `evoloom export --format student`
    wrote, perhaps on another machine; anything else is looked for in the store's run directories.

    Raises:
        UsageError: it is not there, is empty, or all of it descends from one instruction.
        InvalidRowError: a row is not fit for training.
    """
    runs_dir = runs_directory(store_path)
    path = Path(dataset)
    if not is_known(runs_dir, dataset) and path.is_file():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return _split(path.name, f"file-sha256:{digest}", read_examples(path), settings, None)
    if not is_known(runs_dir, dataset) and (path.suffix or len(path.parts) > 1):
        raise UsageError(
            f"dataset {dataset}: there is no such file, and no run or dataset version of that name"
        )
    run_id = resolve_run(runs_dir, dataset)
    found = read_student_rows(runs_dir / run_id)
    examples = [Example.from_json(row) for row in found.rows]
    manifest = found.run.manifest.raw
    preset = (manifest.get("recipe") or {}).get("training")
    return _split(run_id, manifest.get("content_hash"), examples, settings, preset)


def _split(
    name: str,
    content_hash: str | None,
    examples: list[Example],
    settings: TrainingSettings,
    preset: Mapping[str, Any] | None,
) -> TrainingData:
    if not examples:
        raise UsageError(f"dataset {name} is empty: there is nothing to train on")
    roots = [example.root for example in examples]
    if len(set(roots)) < 2:
        raise UsageError(
            f"dataset {name}: all {len(examples)} examples descend from one instruction, so none can "
            "be held out; a training needs at least two lineages"
        )
    share = min(settings.held_out, settings.held_out_most / len(examples))
    split = split_rows(roots, [row.instruction for row in examples], share, settings.split_seed)
    return TrainingData(
        name,
        content_hash,
        tuple(row for number, row in enumerate(examples) if number not in split.validation),
        tuple(row for number, row in enumerate(examples) if number in split.validation),
        preset,
    )
