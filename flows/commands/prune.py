"""`evoloom prune --older-than AGE`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import JsonOption, StoreOption, store_path


def prune(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="AGE", help="Time since a run's end: 90m, 12h, 30d, 2w."
        ),
    ],
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="[default: every run]")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the journals of runs that ended long ago; never those of runs that can be resumed.

    Manifest, spool and everything else stay: a pruned run can be exported, queried and rebuilt, but not
    derived again. Exit code 1 if a run that was named keeps its journal.
    """
    from flows.prune_report import print_pruning
    from flows.retention import parse_age
    from flows.retention import prune as remove

    age = parse_age(older_than)
    place = store_path(store)
    report = remove(place, age, runs or (), dry_run=dry_run)
    print_pruning(place, report, dry_run=dry_run, are_named=bool(runs), as_json=as_json)
    if runs and report.kept:
        raise typer.Exit(1)
