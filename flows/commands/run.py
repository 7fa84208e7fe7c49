"""`evoloom run METHOD`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.options import ConfigOption, JsonOption, SetOption, StoreOption, settings_of

app = typer.Typer(help="Start a run.", no_args_is_help=True)


@app.command("self-instruct")
def self_instruct(
    target: Annotated[
        int | None, typer.Option(help="Instructions with instances to make. [default: 100]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of all random draws. [default: a fresh one]")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seed tasks, JSON Lines. [default: the bundled 175]")
    ] = None,
    run_id: Annotated[str | None, typer.Option(help="Name of the run. [default: made]")] = None,
    prefect: Annotated[
        bool, typer.Option("--prefect", help="Run as a Prefect flow, also without a server.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    sets: SetOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grow instructions from seed tasks (Self-Instruct).

    Without an endpoint in teacher.base_url the bundled model is served by vLLM on this machine.
    With PREFECT_API_URL set, or with --prefect, the run is a Prefect flow run.
    """
    resolved = settings_of(
        sets, store, config, run__target=target, run__seed=seed, seeds__file=seeds
    )
    _start("self-instruct", resolved.settings, run_id, prefect=prefect, quiet=quiet, json=as_json)


def _start(
    kind: str, settings: Any, run_id: str | None, *, prefect: bool, quiet: bool, json: bool
) -> None:
    import os

    from flows.progress import Display
    from flows.report import finish
    from flows.runs import Listener, start_run

    with Display(quiet=quiet) as display:
        listener = Listener(display.show, display.message)
        if prefect or os.environ.get("PREFECT_API_URL"):
            from flows.prefect_runs import start_as_flow

            result = start_as_flow(kind, settings, run_id, listener)
        else:
            result = start_run(kind, settings, run_id, listener)
    finish(result, settings.store.path, as_json=json)
