"""`evoloom rederive RUN --set KEY=VALUE`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import JsonOption, SetOption, StoreOption, flags, store_path


def rederive(
    run: str,
    sets: SetOption = None,
    run_id: Annotated[str | None, typer.Option(help="Name of the new run.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Derive a run's rows again from its paid answers, under other settings. Asks nobody.

    The new run is final. Instructions that lack an answer under the new settings are left out and
    listed.
    """
    import json

    from flows.analysis import analyse_made
    from flows.rederive import rederive as derive
    from flows.report import print_published

    place = store_path(store)
    result = derive(run, place, flags(sets, None), run_id)
    analyse_made(place, [result.run_id], result.published)
    if as_json:
        value = {
            "run_id": result.run_id,
            "rederived_from": run,
            "reused": result.reused,
            "left_out": list(result.left_out),
            "ingest_pending": result.published.pending,
        }
        typer.echo(json.dumps(value, ensure_ascii=False))  # fmt: skip
        return
    typer.echo(f"run {result.run_id}: derived again from {run}, {result.reused} answers used")
    for text in result.left_out:
        typer.echo(f"left out, no answer under these settings: {text}")
    print_published(result.published)
