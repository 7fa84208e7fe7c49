"""`evoloom export RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import JsonOption, StoreOption, store_path


def export(
    run: str,
    out: Annotated[
        Path,
        typer.Option(help="File to write: JSON Lines, a JSON array if it ends in .json, or -."),
    ],
    format: Annotated[str, typer.Option(help="alpaca: instruction, input, output.")] = "alpaca",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's accepted instances. Reads the run directory, so it works at any time."""
    import json

    from store.export import export_run
    from store.run_directory import find_runs, runs_directory

    runs_dir = runs_directory(store_path(store))
    find_runs(runs_dir, [run])  # before RUN becomes part of a path
    report = export_run(runs_dir / run, format, out)  # type: ignore[arg-type]  # checked there
    if as_json:
        value = {
            "run_id": report.run_id,
            "state": report.state,
            "rows": report.rows,
            "instructions": report.instructions,
            "partial": report.is_partial,
            "out": str(out),
        }
        typer.echo(json.dumps(value), err=str(out) == "-")  # fmt: skip
        return
    text = f"{report.rows} rows of {report.instructions} instructions written to {out}"
    if report.is_partial:
        text += (
            f" (the run is {report.state}: its first {report.complete_positions} complete "
            "generation positions)"
        )
    typer.echo(text, err=True)
