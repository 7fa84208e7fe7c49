"""`evoloom runs` and `evoloom runs show RUN`."""

from __future__ import annotations

import typer

from flows.options import JsonOption, StoreOption, store_path

app = typer.Typer(help="List runs, or show one.", invoke_without_command=True)


@app.callback()
def runs(context: typer.Context, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the runs of a store, the newest first; `runs show RUN` shows one."""
    context.obj = store
    if context.invoked_subcommand is not None:
        return
    from flows.report import print_runs

    print_runs(store_path(store), as_json=as_json)


@app.command("show")
def show(
    context: typer.Context, run: str, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Show a run: state, funnel, tokens and cost, samples."""
    from flows.report import print_run

    print_run(store_path(store or context.obj), run, as_json=as_json)
