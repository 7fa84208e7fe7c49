"""`evoloom store rebuild`."""

from __future__ import annotations

import typer

from flows.options import JsonOption, StoreOption, store_path

app = typer.Typer(help="The DuckDB store.", no_args_is_help=True)


@app.callback()
def store_group() -> None:
    """The DuckDB store."""


@app.command("rebuild")
def rebuild(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Make DuckDB again from the run directories, and publish the snapshot."""
    import json

    from store.rebuild import rebuild as make_again

    place = store_path(store)
    report = make_again(place)
    if as_json:
        run_ids = [run.run_id for run in report.ingested.runs]
        typer.echo(json.dumps({"store": str(place), "runs": run_ids}))
    else:
        typer.echo(f"{place}: made again from {len(report.ingested.runs)} run directories")
