"""Everything that the report of a run is made of, read from the published snapshot."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from pipeline.errors import UsageError
from store.database import INGEST_COMMAND
from store.run_directory import list_run_ids, runs_directory
from store.snapshot import open_snapshot

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class Head:
    """What a run is and how it stands. Times are UTC.

    `threshold` is the score at which novelty was rejected, None where it was not measured; `seeds`
    how many seed tasks the run stood on; `models` the teacher's models as the endpoint named them,
    or as configured.
    """

    run_id: str
    kind: str
    state: str
    reason: str | None
    target: int | None
    accepted: int
    surplus: int
    run_seed: int | None
    rederived_from: str | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    elapsed_s: float | None
    seeds: int
    models: tuple[str, ...]
    threshold: float | None
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Statistics:
    """A row of the view `dataset_statistics`; a mean of nothing is None."""

    instructions: int
    classification: int
    not_classification: int
    unknown: int
    instances: int
    empty_inputs: int
    mean_instruction_words: float | None
    mean_input_words: float | None
    mean_output_words: float | None


@dataclass(frozen=True, slots=True)
class ReportData:
    """A run's rows of the views.

    `pairs` and `kinds` are those of the mended rule. `novelty` and `lengths` have no row for an empty
    bin; `is_scored` says whether novelty scores have been worked out.
    """

    head: Head
    generation: int
    taken_at: datetime
    statistics: Statistics
    funnel: pl.DataFrame
    pairs: pl.DataFrame
    kinds: pl.DataFrame
    novelty: pl.DataFrame
    is_scored: bool
    lengths: pl.DataFrame
    usage: pl.DataFrame
    difficulty: pl.DataFrame

    @property
    def parsed(self) -> int:
        """How many of the distinct accepted instructions the parser has seen."""
        return int(self.kinds["count"].sum())

    @property
    def with_pair(self) -> int:
        """How many of them have both a verb and a noun."""
        return int(self.pairs["count"].sum())


_QUERIES = {
    "funnel": "SELECT step, subject, stage, outcome, reason, count FROM funnel WHERE run_id = ? "
    "ORDER BY step, stage, count DESC, reason",
    "pairs": "SELECT verb, noun, count, share, example FROM verb_noun_pairs "
    "WHERE run_id = ? AND method = 'mended' ORDER BY count DESC, verb, noun",
    "kinds": "SELECT kind, question_word, count, share FROM instruction_kinds "
    "WHERE run_id = ? AND method = 'mended' ORDER BY count DESC, kind, question_word",
    "novelty": "SELECT against, score_from, score_to, count FROM novelty_distribution "
    "WHERE run_id = ? AND count > 0 ORDER BY against, score_from",
    "lengths": "SELECT part, words_from, words_to, count FROM length_distribution "
    "WHERE run_id = ? ORDER BY part, words_from",
    "usage": "SELECT stage, requests, answers, refusals, without_usage, prompt_tokens, cached_tokens, "
    "completion_tokens, cost, latency_p50_s, latency_p90_s, latency_p99_s, model, cached_share, "
    "cost_per_accepted FROM teacher_usage "
    "WHERE run_id = ? ORDER BY first_answered_at, stage",
    "difficulty": "SELECT round, difficulty, count FROM difficulty WHERE run_id = ?",
}


def read_report_data(store_path: Path, *run_ids: str) -> list[ReportData]:
    """The data of one or more runs, all from the same snapshot.

    Raises:
        UsageError: nothing has been published yet, or the snapshot has no such run.
    """
    with open_snapshot(store_path) as connection:
        try:
            return [_read(connection, store_path, run_id) for run_id in run_ids]
        except (duckdb.CatalogException, duckdb.BinderException) as exc:
            raise UsageError(
                f"the published snapshot of {store_path} is an older evoloom's: "
                f"`{INGEST_COMMAND} --store {store_path}` publishes one of this version"
            ) from exc


def _read(connection: duckdb.DuckDBPyConnection, store_path: Path, run_id: str) -> ReportData:
    head = _read_head(connection, store_path, run_id)
    frames = {name: _frame(connection, query, run_id) for name, query in _QUERIES.items()}
    ((generation, taken_at),) = connection.execute(
        "SELECT generation, taken_at FROM snapshot"
    ).fetchall()
    ((is_scored,),) = connection.execute(
        "SELECT count(*) = count(count) FROM novelty_distribution WHERE run_id = ?", [run_id]
    ).fetchall()
    return ReportData(
        head=head,
        generation=generation,
        taken_at=taken_at,
        statistics=_read_statistics(connection, run_id),
        is_scored=bool(is_scored),
        **frames,
    )


def _read_head(connection: duckdb.DuckDBPyConnection, store_path: Path, run_id: str) -> Head:
    names = [field.name for field in fields(Head)][:13]
    row = connection.execute(
        f"SELECT {', '.join(names)}, manifest FROM runs WHERE run_id = ?", [run_id]
    ).fetchone()
    if row is None:
        raise UsageError(_unknown(connection, store_path, run_id))
    manifest: dict[str, Any] = json.loads(row[-1])
    ((seeds,),) = connection.execute(
        "SELECT count(*) FROM seed_tasks WHERE run_id = ?", [run_id]
    ).fetchall()
    models = [
        str(model)
        for (model,) in connection.execute(
            "SELECT DISTINCT model FROM completions WHERE run_id = ? AND model <> '' ORDER BY model",
            [run_id],
        ).fetchall()
    ]
    if not models and manifest.get("model"):
        models = [str(manifest["model"])]
    threshold = (manifest.get("config") or {}).get("novelty", {}).get("threshold")
    return Head(
        **dict(zip(names, row[:-1], strict=True)),
        seeds=seeds,
        models=tuple(models),
        threshold=threshold if seeds else None,
        manifest=manifest,
    )


def _unknown(connection: duckdb.DuckDBPyConnection, store_path: Path, run_id: str) -> str:
    if run_id in list_run_ids(runs_directory(store_path)):
        return (
            f"run {run_id} is not in the published snapshot yet: "
            f"`{INGEST_COMMAND} --store {store_path}` brings it there"
        )
    there = [
        str(name)
        for (name,) in connection.execute(
            "SELECT run_id FROM runs ORDER BY created_at DESC NULLS LAST"
        ).fetchall()
    ]
    more = f" and {len(there) - _MOST_NAMED} more" if len(there) > _MOST_NAMED else ""
    return f"no run {run_id!r} in {store_path}; there: {', '.join(there[:_MOST_NAMED])}{more}"


def _frame(connection: duckdb.DuckDBPyConnection, query: str, run_id: str) -> pl.DataFrame:
    table = connection.sql(query, params=[run_id]).to_arrow_table()
    return pl.DataFrame(table)


def _read_statistics(connection: duckdb.DuckDBPyConnection, run_id: str) -> Statistics:
    names = ", ".join(field.name for field in fields(Statistics))
    row = connection.execute(
        f"SELECT {names} FROM dataset_statistics WHERE run_id = ?", [run_id]
    ).fetchone()
    return Statistics(*row) if row else Statistics(0, 0, 0, 0, 0, 0, None, None, None)
