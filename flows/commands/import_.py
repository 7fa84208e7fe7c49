"""`evoloom import FILE...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import JsonOption, StoreOption, store_path


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="JSON Lines, a JSON array, CSV or Parquet; gzipped or not. Each file becomes a "
            "run of its own.",
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            help="self-instruct, alpaca, sharegpt, messages (OpenAI's), evol-instruct, csv or "
            "parquet. [default: told from the first rows]"
        ),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="Where a field stands in the file, such as instruction=question; may be repeated.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The run's id. [default: import-FILE-DATE-...]")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a file with a bad row, rather than set it aside."),
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import files of instruction data as runs, with statistics, lineage, exports as of generated data.

    Rows with the same instruction become one instruction with several instances. Bad rows are
    reported with their number and kept in the run directory, in rejected.jsonl.
    """
    from flows.analysis import analyse_made
    from flows.import_report import print_imports
    from flows.import_source import ImportOptions
    from flows.importing import import_files

    target = store_path(store)
    options = ImportOptions(format, parse_mapping(mapping or []), strict)
    try:
        result = import_files(target, files, options, name, _show_progress)
    finally:
        _end_progress()
    print_imports(result, target, as_json=as_json)
    analyse_made(target, [made.run_id for made in result.imports], result.published)


def parse_mapping(flags: list[str]) -> dict[str, str]:
    """The column of each field that `--map` names.

    Raises:
        UsageError: a flag is not of the form FIELD=COLUMN, or names a field twice.
    """
    from pipeline.errors import UsageError

    found: dict[str, str] = {}
    for flag in flags:
        field, sign, column = flag.partition("=")
        if not sign or not field.strip() or not column.strip():
            raise UsageError(
                f"--map {flag}: FIELD=COLUMN is expected, such as instruction=question"
            )
        if field.strip() in found:
            raise UsageError(f"--map {flag}: field {field.strip()!r} is mapped twice")
        found[field.strip()] = column.strip()
    return found


def _show_progress(file: str, rows: int) -> None:
    import sys

    if sys.stderr.isatty():
        typer.echo(f"\r{file}: {rows:,} rows", err=True, nl=False)


def _end_progress() -> None:
    """Leave the line to what comes next."""
    import sys

    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", err=True, nl=False)
