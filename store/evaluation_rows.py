"""Rows of a finished evaluation, from its run directory into DuckDB."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from pipeline.records import row_id
from store.evaluations import EVALUATED, KIND, RESULTS, SCORES
from store.run_directory import DamagedRunError, Manifest, parse_utc
from store.text import storable

TABLES = (
    "evaluations", "evaluation_files", "evaluation_scorings", "evaluation_items",
    "evaluation_scores", "evaluation_differences",
)  # fmt: skip
"""The tables that hold nothing but evaluations; all have a column run_id."""
_Rows = list[dict[str, Any]]
_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "evaluations": {
        "run_id": pl.String, "training_run": pl.String, "dataset": pl.String,
        "base_name": pl.String, "base_hash": pl.String, "method": pl.String,
        "adapter_hash": pl.String, "template": pl.String, "dtype": pl.String,
        "serving": pl.String, "proof_tokens": pl.Int64, "proof_disagreement": pl.Float64,
        "proof_effect": pl.Float64, "proof_scaled_disagreement": pl.Float64,
        "proof_scaled_effect": pl.Float64, "judge_model": pl.String, "resamples": pl.Int64,
        "confidence": pl.Float64, "seed": pl.Int64,
    },
    "evaluation_files": {
        "run_id": pl.String, "file": pl.Int32, "part": pl.String, "name": pl.String,
        "sha256": pl.String, "items": pl.Int64, "asked": pl.Int64, "contaminated": pl.Int64,
    },
    "evaluation_scorings": {
        "run_id": pl.String, "file": pl.Int32, "student": pl.String, "scoring_key": pl.String,
        "items": pl.Int64, "recorded_from": pl.List(pl.String), "scored_at": pl.Datetime("ms"),
    },
    "evaluation_items": {
        "id": pl.String, "run_id": pl.String, "file": pl.Int32, "item": pl.Int32,
        "part": pl.String, "name": pl.String, "task": pl.String, "category": pl.String,
        "is_classification": pl.Boolean, "is_contaminated": pl.Boolean, "system": pl.String,
        "instruction": pl.String, "input": pl.String, "reference_answers": pl.List(pl.String),
        "base_answer": pl.String, "tuned_answer": pl.String, "base_finish": pl.String,
        "tuned_finish": pl.String, "verdict": pl.String,
    },
    "evaluation_scores": {
        "item_id": pl.String, "run_id": pl.String, "metric": pl.String, "student": pl.String,
        "value": pl.Float64, "weight": pl.Float64,
    },
    "evaluation_differences": {
        "run_id": pl.String, "file": pl.Int32, "group_name": pl.String, "metric": pl.String,
        "items": pl.Int64, "base": pl.Float64, "tuned": pl.Float64, "difference": pl.Float64,
        "low": pl.Float64, "high": pl.Float64, "notes": pl.String,
    },
}  # fmt: skip


def write_evaluation(
    connection: duckdb.DuckDBPyConnection, run_dir: Path, manifest: Manifest
) -> None:
    """Insert the rows of an evaluation that has none; there are none before it has ended.

    Raises:
        DamagedRunError: a file of it is missing or damaged.
    """
    if not (run_dir / RESULTS).exists():
        return
    try:
        rows = _read(run_dir, manifest)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise DamagedRunError(
            f"{run_dir}: the results of the evaluation cannot be read "
            f"({type(exc).__name__}: {exc}); restore them from a backup"
        ) from exc
    for table in TABLES:
        if rows[table]:
            frame = pl.DataFrame(rows[table], schema=_SCHEMAS[table], orient="row")
            connection.register("staged", frame.to_arrow())
            connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM staged")
            connection.unregister("staged")


def _read(run_dir: Path, manifest: Manifest) -> dict[str, _Rows]:
    run_id, raw = manifest.run_id, manifest.raw
    results = json.loads((run_dir / RESULTS).read_bytes().decode("utf-8", "surrogatepass"))
    proof = results["proof"] or {}
    bootstrap = results["bootstrap"]
    contaminated = results["contaminated"]
    ids = {}
    items = []
    for value in _lines(run_dir / EVALUATED):
        place = (int(value["file"]), int(value["number"]))
        ids[place] = row_id(run_id, KIND, place)
        items.append(_item(value, run_id, ids[place]))
    return {
        "evaluations": [{
            "run_id": run_id, "training_run": results["training"], "dataset": results["dataset"],
            "base_name": results["base"], "base_hash": raw["base"]["hash"],
            "method": results["method"], "adapter_hash": raw["adapter_hash"],
            "template": results["template"], "dtype": results["dtype"],
            "serving": results["serving"], "proof_tokens": proof.get("tokens"),
            "proof_disagreement": proof.get("disagreement"), "proof_effect": proof.get("effect"),
            "proof_scaled_disagreement": proof.get("scaled_disagreement"),
            "proof_scaled_effect": proof.get("scaled_effect"), "judge_model": results["judge"],
            "resamples": bootstrap["resamples"], "confidence": bootstrap["confidence"],
            "seed": bootstrap["seed"],
        }],
        "evaluation_files": [
            {"run_id": run_id, "file": file["number"], "part": file["part"],
             "name": storable(file["name"]), "sha256": file["sha256"], "items": file["items"],
             "asked": results["asked"][str(file["number"])],
             "contaminated": contaminated.get(str(file["number"]))}
            for file in results["files"]
        ],
        "evaluation_scorings": [
            {"run_id": run_id, "file": one["file"], "student": one["student"],
             "scoring_key": one["key"], "items": one["items"],
             "recorded_from": one["recorded_from"], "scored_at": parse_utc(one["scored_at"])}
            for one in results["scorings"]
        ],
        "evaluation_items": items,
        "evaluation_scores": [
            {"item_id": ids[one["file"], one["number"]], "run_id": run_id,
             "metric": one["metric"], "student": one["student"] or "pair",
             "value": one["value"], "weight": one["weight"]}
            for one in _lines(run_dir / SCORES)
        ],
        "evaluation_differences": [
            {"run_id": run_id, "file": one["file"], "group_name": storable(one["group"]),
             "metric": one["metric"], "items": one["items"], "base": one["base"],
             "tuned": one["tuned"], **one["interval"], "notes": json.dumps(_notes(one))}
            for one in results["comparisons"]
        ],
    }  # fmt: skip


def _notes(comparison: Mapping[str, Any]) -> dict[str, Any]:
    # Of a metric of evoloom's own the view knows; results of before 0011 do not say.
    direction = {"lower_is_better": True} if comparison.get("is_lower_better") else {}
    return {**comparison["notes"], **direction}


def _item(value: Mapping[str, Any], run_id: str, item_id: str) -> dict[str, Any]:
    texts = {
        name: None if value[name] is None else storable(value[name])
        for name in ("name", "task", "category", "system", "instruction", "input", "base_answer",
                     "tuned_answer")
    }  # fmt: skip
    same = ("file", "part", "is_classification", "is_contaminated", "base_finish", "tuned_finish",
            "verdict")  # fmt: skip
    return {
        "id": item_id, "run_id": run_id, "item": value["number"],
        "reference_answers": [storable(text) for text in value["references"]],
        **{name: value[name] for name in same}, **texts,
    }  # fmt: skip


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    text = path.read_bytes().decode("utf-8", "surrogatepass")
    return (json.loads(line) for line in text.split("\n") if line)
