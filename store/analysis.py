"""What `evoloom store analyse` reads from the snapshot and writes to the live file: the parses of
instructions, and how near each is to its neighbours. No run directory holds them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from pipeline.errors import EvoloomError, UsageError
from store.database import open_live, transaction, writer_lock
from store.snapshot import open_snapshot

PARSES: dict[str, pl.DataType | type[pl.DataType]] = {
    "text": pl.String, "method": pl.String, "parser_version": pl.String, "kind": pl.String,
    "verb": pl.String, "noun": pl.String, "question_word": pl.String,
    "further": pl.List(pl.Struct({"verb": pl.String, "noun": pl.String})),
}  # fmt: skip
"""Columns of a frame for `write_parses`."""
SCORES: dict[str, pl.DataType | type[pl.DataType]] = {
    "instruction_id": pl.String, "run_id": pl.String, "seed_score": pl.Float64,
    "seed_id": pl.String, "pool_score": pl.Float64, "pool_id": pl.String, "pool_size": pl.Int32,
}  # fmt: skip
"""Columns of a frame for `write_scores`."""

_AT_WORK = ["queued", "running", "paused"]
_POLL_S = 0.2
# Admission order: what an evolution started from, then by position.
_IN_ORDER = "stage <> 'source', generation, item NULLS FIRST"
_UNPARSED = """
  FROM instructions
  WHERE state = 'accepted' AND ($runs IS NULL OR list_contains($runs, run_id))
    AND text_id NOT IN (
      SELECT text_id FROM verb_nouns
      WHERE parser_version = $version AND list_contains($methods, method)
      GROUP BY text_id HAVING count(*) = len($methods)
    )
"""


class AnalysisTakenError(EvoloomError):
    """Raised when another process is analysing the store: twice would be parsed what it parses."""


@dataclass(frozen=True, slots=True)
class RunToScore:
    """A run some of whose accepted instructions lack a novelty score for its pool as it is now."""

    run_id: str
    accepted: int
    missing: int


@contextmanager
def analysis_lock(store_path: Path, wait_s: float) -> Iterator[None]:
    """Admit one analysis of a store at a time.

    Raises:
        AnalysisTakenError: another process has kept it for `wait_s`.
        UsageError: the lock file cannot be made.
    """
    path = store_path.with_name(f"{store_path.name}.analysis.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise UsageError(f"{path}: cannot be written: {exc.strerror}") from exc
    deadline = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() >= deadline:
                    raise AnalysisTakenError(
                        f"{store_path}: another evoloom process is analysing it; when it has ended, "
                        f"`evoloom store analyse --store {store_path}` does what is left"
                    ) from exc
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def count_unparsed(
    store_path: Path, methods: Sequence[str], parser_version: str, run_ids: Sequence[str] | None
) -> int:
    """How many distinct accepted texts lack an answer of this parser by one of the methods.

    Args:
        run_ids: the runs whose texts are meant; None for all.
    """
    with open_snapshot(store_path) as connection:
        row = connection.execute(
            f"SELECT count(DISTINCT text_id) {_UNPARSED}",
            _parameters(methods, parser_version, run_ids),
        ).fetchone()
    return int(row[0]) if row else 0


def read_unparsed(
    store_path: Path,
    methods: Sequence[str],
    parser_version: str,
    run_ids: Sequence[str] | None,
    size: int,
) -> Iterator[list[str]]:
    """These texts, in lists of `size`. The snapshot stays open meanwhile, which holds up nobody."""
    with open_snapshot(store_path) as connection:
        found = connection.execute(
            f"SELECT any_value(text) {_UNPARSED} GROUP BY text_id",
            _parameters(methods, parser_version, run_ids),
        )
        while rows := found.fetchmany(size):
            yield [row[0] for row in rows]


def read_parses(
    store_path: Path, texts: Sequence[str], method: str, parser_version: str
) -> pl.DataFrame:
    """What the snapshot knows of texts: `place` (their number in `texts`) and the columns of a
    parse. Texts that were never parsed are left out."""
    frame = pl.DataFrame({"place": range(len(texts)), "text": list(texts)})
    with open_snapshot(store_path) as connection:
        connection.register("wanted", frame.to_arrow())
        found = connection.sql(
            "SELECT place, kind, verb, noun, question_word, further "
            "FROM wanted JOIN verb_nouns ON text_id = md5(text)::UUID "
            "WHERE method = ? AND parser_version = ? ORDER BY place",
            params=[method, parser_version],
        )
        return pl.DataFrame(found.to_arrow_table())


def write_parses(store_path: Path, parser_version: str, parses: pl.DataFrame) -> None:
    """Keep answers of a parser; those that are there stay as they are.

    Raises:
        StoreBusyError: another process has the live file open.
    """
    with (
        writer_lock(store_path, "analyse"),
        open_live(store_path) as connection,
        transaction(connection),
    ):
        connection.execute(
            "INSERT OR IGNORE INTO parsers VALUES (?, now() AT TIME ZONE 'UTC')", [parser_version]
        )
        connection.register("parsed", parses.to_arrow())
        connection.execute(
            "INSERT OR IGNORE INTO verb_nouns BY NAME "
            "SELECT md5(text)::UUID AS text_id, * EXCLUDE (text) FROM parsed"
        )
        connection.unregister("parsed")


def runs_to_score(store_path: Path, run_ids: Sequence[str] | None) -> list[RunToScore]:
    """Runs that are not at work and whose novelty scores are missing, or are of a smaller pool."""
    with open_snapshot(store_path) as connection:
        rows = connection.execute(
            """
            WITH pool AS (
              SELECT run_id, id, count(*) OVER (PARTITION BY run_id) AS size
              FROM instructions JOIN runs USING (run_id)
              WHERE instructions.state = 'accepted' AND NOT list_contains($at_work, runs.state)
                AND ($runs IS NULL OR list_contains($runs, run_id))
            )
            SELECT pool.run_id, any_value(size),
              count(*) FILTER (pool_size IS DISTINCT FROM size) AS missing
            FROM pool LEFT JOIN novelty_scores ON instruction_id = id
            GROUP BY pool.run_id HAVING missing > 0 ORDER BY pool.run_id
            """,
            {"at_work": _AT_WORK, "runs": None if run_ids is None else list(run_ids)},
        ).fetchall()
    return [RunToScore(*row) for row in rows]


def runs_at_work(store_path: Path, run_ids: Sequence[str] | None) -> list[str]:
    """Runs that grow at present, so that their pool is not what it will be."""
    with open_snapshot(store_path) as connection:
        rows = connection.execute(
            "SELECT run_id FROM runs WHERE list_contains($at_work, state) "
            "AND ($runs IS NULL OR list_contains($runs, run_id)) ORDER BY run_id",
            {"at_work": _AT_WORK, "runs": None if run_ids is None else list(run_ids)},
        ).fetchall()
    return [row[0] for row in rows]


def read_pool(store_path: Path, run_id: str) -> pl.DataFrame:
    """The accepted instructions of a run in admission order: `id`, `text`, and whether it
    `is_scored` for the pool as it is now."""
    with open_snapshot(store_path) as connection:
        found = connection.sql(
            f"""
            SELECT id, text, pool_size IS NOT DISTINCT FROM count(*) OVER () AS is_scored
            FROM (SELECT * FROM instructions WHERE run_id = $run AND state = 'accepted') AS pool
            LEFT JOIN (SELECT instruction_id, pool_size FROM novelty_scores WHERE run_id = $run)
              ON instruction_id = id
            ORDER BY {_IN_ORDER}
            """,
            params={"run": run_id},
        )
        return pl.DataFrame(found.to_arrow_table())


def write_scores(store_path: Path, run_id: str, scores: pl.DataFrame) -> None:
    """Keep novelty scores of a run's instructions, and drop those of what is no longer accepted.

    Raises:
        StoreBusyError: another process has the live file open.
    """
    with (
        writer_lock(store_path, "analyse"),
        open_live(store_path) as connection,
        transaction(connection),
    ):
        connection.register("scored", scores.to_arrow())
        _delete_scores(connection, run_id)
        connection.execute(
            "INSERT INTO novelty_scores BY NAME SELECT scored.* FROM scored "
            "WHERE instruction_id IN (SELECT id FROM instructions WHERE run_id = ?)",
            [run_id],
        )
        connection.unregister("scored")


def _delete_scores(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    connection.execute(
        """
        DELETE FROM novelty_scores WHERE run_id = $run AND (
          instruction_id IN (SELECT instruction_id FROM scored)
          OR instruction_id NOT IN (
            SELECT id FROM instructions WHERE run_id = $run AND state = 'accepted'
          )
        )
        """,
        {"run": run_id},
    )


def _parameters(
    methods: Sequence[str], parser_version: str, run_ids: Sequence[str] | None
) -> dict[str, object]:
    runs = None if run_ids is None else list(run_ids)
    return {"runs": runs, "methods": list(methods), "version": parser_version}
