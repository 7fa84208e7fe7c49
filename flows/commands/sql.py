"""`evoloom sql`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import ConfigOption, StoreOption, store_path

if TYPE_CHECKING:
    from store.sql import Result


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def sql(
    query: Annotated[
        str | None, typer.Argument(help="SQL of DuckDB; - or nothing reads standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="File with SQL.")] = None,
    format: Annotated[Format, typer.Option(help="Parquet needs --out or a pipe.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="File to write; replaced if it exists.")] = None,
    wide: Annotated[
        bool, typer.Option("--wide", help="Do not cut a table's cells at 60 columns.")
    ] = False,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Query the published snapshot, read-only; jobs may write meanwhile, nobody waits.

    Of several statements (temporary tables and views, macros, SET are allowed) the last one's rows
    are written. Times are UTC. `evoloom sql "SHOW TABLES"` lists tables and views, `evoloom sql
    "DESCRIBE funnel"` one's columns.
    """
    import os
    import sys

    from pipeline.errors import UsageError
    from store.sql import run_sql

    if format is Format.PARQUET and out is None and sys.stdout.isatty():
        raise UsageError("--format parquet: a terminal cannot show it; give --out FILE, or pipe it")
    if wide and format is not Format.TABLE:
        raise UsageError(f"--wide: is for tables; {format} is never cut")
    text, name = _read_query(query, file)
    with run_sql(store_path(store, config), text, name) as result:
        snapshot = result.snapshot
        runs = len(snapshot.run_ids)
        typer.echo(
            f"snapshot {snapshot.generation}, taken {snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"{runs} run{'' if runs == 1 else 's'}",
            err=True,
        )
        try:
            _write(result, format, out, wide)
        except BrokenPipeError:
            # `evoloom sql ... | head` is not an error (typer would exit with 1); nothing more can be
            # written, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _read_query(query: str | None, file: Path | None) -> tuple[str, str]:
    """The SQL, and what it is called in messages."""
    import sys

    from pipeline.errors import UsageError

    if file is not None:
        if query is not None:
            raise UsageError("give a query or --file, not both")
        try:
            return file.read_text(encoding="utf-8-sig"), str(file)
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"--file {file}: cannot be read: {exc}") from exc
    if query not in (None, "-"):
        return str(query), "query"
    if query is None and sys.stdin.isatty():
        raise UsageError('no query; try `evoloom sql "SELECT * FROM runs"`')
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig"), "standard input"
    except UnicodeDecodeError as exc:
        raise UsageError(f"standard input: is not UTF-8: {exc}") from exc


def _write(result: Result, file_format: Format, out: Path | None, wide: bool) -> None:
    import sys

    from flows.query_output import replacing, write_parquet, write_text

    if file_format is Format.PARQUET:
        if out is None:
            write_parquet(result, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        with replacing(out) as temporary, temporary.open("wb") as binary:
            write_parquet(result, binary)
        return
    if out is None:
        write_text(result, sys.stdout, file_format.value, wide=wide)
        sys.stdout.flush()
        return
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write_text(result, file, file_format.value, wide=wide)
