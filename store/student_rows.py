"""Rows of runs that have tables of their own: a training's losses, an evaluation's results.

A kind registers a function that writes all of a run's rows anew; it is called in the transaction in
which the run itself is ingested.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from store import evaluation_rows
from store.run_directory import DamagedRunError, Manifest, parse_utc

_METRICS = ("step", "epoch", "loss", "held_out_loss", "learning_rate", "grad_norm", "tokens_per_s",
            "trained_tokens_per_s", "peak_memory_bytes")  # fmt: skip
_RESULTS = ("truncated", "dropped", "parameters", "trainable_parameters", "peak_memory_bytes",
            "base_held_out_loss", "held_out_loss", "steps", "epochs", "stopped_early", "tokens_per_s",
            "trained_tokens_per_s", "device", "processes")  # fmt: skip


@dataclass(frozen=True, slots=True)
class KindRows:
    """What a kind of run has beside instructions and completions."""

    tables: tuple[str, ...]
    """Each has a column `run_id`."""
    write: Callable[[duckdb.DuckDBPyConnection, Path, Manifest], None]
    """Insert the rows of a run that has none in these tables."""


def write_kind_rows(
    connection: duckdb.DuckDBPyConnection, run_dir: Path, manifest: Manifest
) -> None:
    """Replace a run's rows in its kind's own tables; nothing where it has none.

    Raises:
        DamagedRunError: a file of the run directory cannot be read.
    """
    kind = KINDS.get(manifest.kind)
    if kind is None:
        return
    for table in kind.tables:
        connection.execute(f"DELETE FROM {table} WHERE run_id = ?", [manifest.run_id])
    kind.write(connection, run_dir, manifest)


def _write_training(
    connection: duckdb.DuckDBPyConnection, run_dir: Path, manifest: Manifest
) -> None:
    raw = manifest.raw
    result = _read_result(run_dir / "result.json")
    named = {
        "run_id": manifest.run_id,
        "dataset": raw["dataset"],
        "content_hash": raw["content_hash"],
        "base": raw["base"]["name"],
        "method": raw["method"]["name"],
        "template": raw["template"],
        "dtype": raw["dtype"],
        "train_examples": raw["counts"]["train"],
        "held_out_examples": raw["counts"]["held_out"],
        "estimated_memory_bytes": raw["estimated_memory_bytes"],
        **{name: result.get(name) for name in _RESULTS},
    }
    columns = ", ".join(named)
    marks = ", ".join("?" for _ in named)
    connection.execute(f"INSERT INTO trainings ({columns}) VALUES ({marks})", list(named.values()))
    rows = [
        [manifest.run_id, number, parse_utc(line["at"]), *(line.get(name) for name in _METRICS)]
        for number, line in enumerate(_read_lines(run_dir / "metrics.jsonl"))
    ]
    if rows:
        marks = ", ".join("?" for _ in rows[0])
        columns = ", ".join(("run_id", "line", "measured_at", *_METRICS))
        connection.executemany(f"INSERT INTO training_metrics ({columns}) VALUES ({marks})", rows)


def _read_result(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise DamagedRunError(f"{path}: cannot be read: {exc}") from exc
    return value


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines; the run may be writing, and a kill may have left half a line."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text("utf-8").split("\n")[:-1]:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


KINDS: dict[str, KindRows] = {
    "training": KindRows(("trainings", "training_metrics"), _write_training),
    "evaluation": KindRows(evaluation_rows.TABLES, evaluation_rows.write_evaluation),
}
"""By the kind of run."""
KIND_TABLES = tuple(table for kind in KINDS.values() for table in kind.tables)
