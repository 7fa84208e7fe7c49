"""`evoloom run METHOD`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.options import ConfigOption, JsonOption, SetOption, StoreOption, flags, settings_of

app = typer.Typer(help="Start a run.", no_args_is_help=True)

SeedOption = Annotated[
    int | None, typer.Option(help="Seed of all random draws. [default: a fresh one]")
]
RunIdOption = Annotated[str | None, typer.Option(help="Name of the run. [default: made]")]
PrefectOption = Annotated[
    bool, typer.Option("--prefect", help="Run as a Prefect flow, also without a server.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what it would take, and start nothing.")
]


@app.command("self-instruct")
def self_instruct(
    target: Annotated[
        int | None, typer.Option(help="Instructions with instances to make. [default: 100]")
    ] = None,
    seed: SeedOption = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seed tasks, JSON Lines. [default: the bundled 175]")
    ] = None,
    run_id: RunIdOption = None,
    prefect: PrefectOption = False,
    quiet: QuietOption = False,
    dry_run: DryRunOption = False,
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
    if dry_run:
        _estimate("self-instruct", resolved.settings, json=as_json)
        return
    _start("self-instruct", resolved.settings, run_id, prefect=prefect, quiet=quiet, json=as_json)


@app.command("evol-instruct")
def evol_instruct(
    source: Annotated[
        str | None,
        typer.Option(
            help="A run that has ended, a dataset version, or a file in Alpaca's format.",
            metavar="RUN|DATASET|FILE",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Evolutions of each instruction. [default: 4]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Source instructions, the first ones. [default: all]")
    ] = None,
    seed: SeedOption = None,
    run_id: RunIdOption = None,
    prefect: PrefectOption = False,
    quiet: QuietOption = False,
    dry_run: DryRunOption = False,
    sets: SetOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evolve the instructions of a run or a file, in depth and breadth (Evol-Instruct).

    Each round evolves every instruction once; what is eliminated is tried again in the next round.
    The result is the source and everything that survived, each with a response.
    """
    resolved = settings_of(
        sets, store, config, run__seed=seed, evol_instruct__source=source,
        evol_instruct__rounds=rounds, evol_instruct__limit=limit,
    )  # fmt: skip
    if dry_run:
        _estimate("evol-instruct", resolved.settings, json=as_json)
        return
    _start("evol-instruct", resolved.settings, run_id, prefect=prefect, quiet=quiet, json=as_json)


@app.command("nightly")
def nightly(
    profile: Annotated[
        Path | None,
        typer.Option(help="TOML file with the steps and their settings (docs/SCHEDULES.md)."),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(
            help="Name of the nightly; one that was begun is gone on with. [default: made]"
        ),
    ] = None,
    prefect: PrefectOption = False,
    quiet: QuietOption = False,
    sets: SetOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grow, evolve, curate, train, evaluate: one after the other, by a profile.

    Each step begins with what the one before it made. Stopped and started again with the same
    --run-id, it goes on where it stopped, without the profile too. --set is for all steps.
    """
    from flows.nightly_report import start_nightly

    start_nightly(
        profile, run_id, flags(sets, store), prefect=prefect, quiet=quiet, as_json=as_json
    )


def _estimate(kind: str, settings: Any, *, json: bool) -> None:
    from flows.estimate_report import print_estimate
    from flows.methods import METHODS
    from pipeline.asking import model_of
    from pipeline.teacher.served import ServedModel

    method = METHODS[kind]
    files = method.check("dry-run", settings)
    # Nobody is asked: a model that only its endpoint knows stays without a name.
    teacher = settings.teacher
    name = teacher.model or ("" if teacher.addresses else settings.engine.model)
    manifest = method.build_manifest("dry-run", settings, ServedModel(name), files)
    estimate = method.estimate(manifest, files)
    models = {stage.stage: model_of(manifest, stage.stage) for stage in estimate.stages}
    print_estimate(kind, estimate, models, settings, as_json=json)


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
