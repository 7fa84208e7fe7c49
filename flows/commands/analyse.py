"""`evoloom store analyse [RUN...]`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, StoreOption, settings_of


def analyse(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...", help="Runs, imports or dataset versions. [default: all]"
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that parse at once. [default: one a core]"),
    ] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Work out verb-noun pairs and novelty of what has none yet, and publish the snapshot.

    Runs, imports and dataset versions do it at their end, unless store.analyse is off. A text is
    parsed once, whatever run it is in. Ctrl-C stops it; the next time it goes on from there.
    """
    import json
    from dataclasses import asdict

    from flows.analysis import Announcer, analyse_store
    from flows.publishing import publish_store
    from pipeline.errors import EvoloomError
    from store.run_directory import runs_directory
    from store.run_names import resolve_runs

    settings = settings_of(None, store, config, store__analyse_processes=processes).settings.store
    run_ids = resolve_runs(runs_directory(settings.path), runs) if runs else None
    published = publish_store(settings.path)
    if published.pending is not None:
        raise EvoloomError(published.pending)

    def tell(text: str) -> None:
        typer.echo(f"evoloom: {text}", err=True)

    done = analyse_store(settings.path, run_ids, settings.analyse_processes, Announcer(tell))
    for problem in published.damaged:
        tell(problem)
    if as_json:
        typer.echo(json.dumps({"store": str(settings.path), **asdict(done)}, ensure_ascii=False))
        return
    typer.echo(f"{done.parsed:,} distinct instructions parsed")
    for run_id, count in done.scored.items():
        typer.echo(f"{run_id}: {count:,} instructions compared with their pool and seeds")
    for run_id in done.at_work:
        typer.echo(f"{run_id}: still growing; its novelty is worked out when it has ended")
