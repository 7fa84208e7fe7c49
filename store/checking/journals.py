"""A run's journal against the completions that the database has of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import duckdb
import polars as pl

from pipeline.records import Completion, JournalEntry, row_id
from store.checking.findings import Finding, Remedies
from store.journal import read_entries
from store.run_writer import JOURNAL
from store.text import storable

_ENTRIES_AT_ONCE = 5_000
_SCHEMA = {"id": pl.String, "address": pl.String, "text": pl.String, "prompt_tokens": pl.Int64,
           "completion_tokens": pl.Int64}  # fmt: skip


def check_journal(
    scratch: duckdb.DuckDBPyConnection, run_dir: Path, remedies: Remedies, *, is_whole: bool
) -> Iterator[Finding]:
    """Compare every entry with its completion, and every completion with its entry.

    Args:
        scratch: a database for a table of its own, to which the live file's copy is attached as
            `live`.
        is_whole: the run has ended and is ingested: no entry may be without its completion.

    Raises:
        DamagedFileError: the journal is damaged.
    """
    run_id = run_dir.name
    scratch.execute(
        "CREATE OR REPLACE TEMP TABLE journaled (id VARCHAR, address VARCHAR, text VARCHAR, "
        "prompt_tokens BIGINT, completion_tokens BIGINT)"
    )
    entries = read_entries(run_dir / JOURNAL)
    while group := list(islice(entries, _ENTRIES_AT_ONCE)):
        rows = [_row(run_id, entry) for entry in group]
        scratch.register("entries", pl.DataFrame(rows, schema=_SCHEMA, orient="row").to_arrow())
        scratch.execute("INSERT INTO journaled SELECT * FROM entries")
        scratch.unregister("entries")
    where = f"run {run_id}"
    completions = "(SELECT * FROM live.completions WHERE run_id = $run_id)"
    address = (
        "c.stage || '/' || array_to_string(c.position, '.') || "
        "CASE c.attempt WHEN 0 THEN '' ELSE '/' || c.attempt END"
    )
    count, first = _counted(
        scratch, run_id, f"SELECT {address} FROM {completions} AS c ANTI JOIN journaled USING (id)"
    )
    if count:
        yield Finding(
            where,
            f"{count} completions in the database that its journal does not hold, the first: {first}",
            remedies.restore,
        )
    count, first = _counted(
        scratch, run_id,
        f"SELECT j.address FROM journaled AS j JOIN {completions} AS c USING (id) "
        "WHERE (j.text, j.prompt_tokens, j.completion_tokens) "
        "IS DISTINCT FROM (c.text, c.prompt_tokens, c.completion_tokens)",
    )  # fmt: skip
    if count:
        yield Finding(
            where,
            f"{count} completions in the database that say something else than its journal, "
            f"the first: {first}",
            remedies.rebuild,
        )
    if is_whole:
        count, first = _counted(
            scratch, run_id,
            f"SELECT j.address FROM journaled AS j ANTI JOIN {completions} AS c USING (id)",
        )  # fmt: skip
        if count:
            yield Finding(
                where,
                f"{count} journaled answers without a completion in the database, the first: {first}",
                remedies.rebuild,
            )


def _counted(scratch: duckdb.DuckDBPyConnection, run_id: str, query: str) -> tuple[int, str | None]:
    row = scratch.execute(
        f"SELECT count(*), min(place) FROM ({query}) AS found(place)", {"run_id": run_id}
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def _row(run_id: str, entry: JournalEntry) -> tuple[str, str, str | None, int | None, int | None]:
    address = entry.address
    answer = entry.outcome if isinstance(entry.outcome, Completion) else None
    usage = answer.usage if answer else None
    return (
        row_id(run_id, address.stage, address.position, address.attempt),
        str(address),
        storable(answer.text) if answer else None,
        usage.prompt_tokens if usage else None,
        usage.completion_tokens if usage else None,
    )
