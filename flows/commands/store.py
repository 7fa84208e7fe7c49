"""`evoloom store ingest|check|compact|backup|rebuild`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.analyse import analyse
from flows.options import JsonOption, StoreOption, store_path

app = typer.Typer(help="The DuckDB store.", no_args_is_help=True)


@app.callback()
def store_group() -> None:
    """The DuckDB store."""


@app.command("ingest")
def ingest(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Bring in what run directories hold and DuckDB lacks, and publish the snapshot."""
    import json

    from store.ingest import ingest as bring_in
    from store.snapshot import publish

    place = store_path(store)
    report = bring_in(place)
    snapshot = publish(place)
    if as_json:
        value = {
            "store": str(place),
            "runs": [run.run_id for run in report.runs],
            "damaged": {run.run_id: run.message for run in report.damaged},
            "generation": snapshot.generation,
        }
        typer.echo(json.dumps(value, ensure_ascii=False))
    else:
        for run in report.runs:
            typer.echo(f"{run.run_id}: {run.rows:,} rows of {run.batches:,} batches")
        if not report.runs:
            typer.echo("nothing was waiting")
        typer.echo(f"snapshot {snapshot.generation} of {len(snapshot.run_ids)} runs published")
    for damaged in report.damaged:
        typer.echo(f"evoloom: run {damaged.run_id}: {damaged.message}", err=True)
    if report.damaged:
        raise typer.Exit(1)


@app.command("check")
def check(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Compare run directories, DuckDB and snapshot: keys, counts, journals, rows, content hashes.

    Every run is derived again for it, which takes about as long as `rebuild`; jobs may go on, and
    nothing is changed. Exit code 1 if anything is wrong.
    """
    from flows.check_report import print_check

    if print_check(store_path(store), as_json=as_json):
        raise typer.Exit(1)


@app.command("compact")
def compact(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Rewrite the live file without the space that replaced rows have left, and publish it."""
    import json

    from store.compacting import compact as rewrite

    place = store_path(store)
    report = rewrite(place)
    if as_json:
        value = {
            "store": str(place),
            "bytes_before": report.bytes_before,
            "bytes_after": report.bytes_after,
            "generation": report.snapshot.generation,
        }
        typer.echo(json.dumps(value))
    else:
        typer.echo(f"{place}: {report.bytes_before:,} bytes before, {report.bytes_after:,} after")


@app.command("backup")
def backup(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|FILE", help="A new folder, or a new archive: .tar, .tar.gz or .tgz."
        ),
    ],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy everything: run directories, DuckDB, the service's database. Jobs may go on meanwhile.

    To restore, unpack it into an empty folder and ingest; the command is printed, and is in the
    backup's backup.json. Nothing is ever overwritten.
    """
    import json
    from dataclasses import asdict

    from store.backup import back_up, restore_hint

    report = back_up(store_path(store), target)
    restore = restore_hint(report)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "path": str(report.path), "restore": restore}))
        return
    typer.echo(f"{report.path}: {report.runs} runs, {report.bytes:,} bytes")
    if report.database == "snapshot":
        typer.echo(
            "Another program has the live file open: the newest snapshot is in the backup instead; "
            "what it lacks is in the run directories."
        )
    typer.echo(f"To restore it, PLACE being an empty folder: {restore}")


@app.command("rebuild")
def rebuild(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Make DuckDB again from the run directories, and publish the snapshot."""
    import json

    from store.rebuild import rebuild as make_again

    place = store_path(store)
    report = make_again(place)
    if as_json:
        run_ids = [run.run_id for run in report.ingested.runs]
        typer.echo(
            json.dumps({"store": str(place), "runs": run_ids, "taken_over": report.taken_over})
        )
        return
    typer.echo(f"{place}: made again from {len(report.ingested.runs)} run directories")
    if report.taken_over is None:
        typer.echo(
            "Verb-noun pairs and novelty scores are in no run directory, and the old file could not "
            f"be read: `evoloom store analyse --store {place}` works them out again."
        )


app.command("analyse")(analyse)
