"""`evoloom up` and `evoloom down`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import ConfigOption, JsonOption, SetOption, StoreOption, settings_of, store_path

if TYPE_CHECKING:
    from flows.up.place import Place

StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="Folder of logs and state. [default: beside the store, STORE.up]"),
]


def up(
    port: Annotated[
        int | None, typer.Option(help="Port of the API; 0 takes a free one. [default: 8080]")
    ] = None,
    prefect_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of Prefect's server; 0 takes a free one.")
    ] = 4200,
    gpu: Annotated[bool, typer.Option("--gpu", help="A worker of the pool gpu, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Flow runs at once in each pool.")] = 1,
    no_teacher: Annotated[
        bool, typer.Option("--no-teacher", help="Do not keep the local engine running.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background once all is healthy.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show what runs; exit code 1 unless all is healthy.")
    ] = False,
    state: StateOption = None,
    sets: SetOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run everything under one supervisor: Prefect's server, workers, the teacher, the API.

    Until Ctrl-C or `evoloom down`, which stop it in reverse order; runs in progress get their grace
    time and can be resumed. With PREFECT_API_URL set that server is used, with teacher.base_url set
    that teacher. What dies or hangs is started again; see docs/UP.md.
    """
    from flows.up.start import Wanted, start, start_detached

    resolved = settings_of(sets, store, config, api__port=port)
    place = place_of(state, resolved.settings.store.path)
    if status:
        _show(place, as_json=as_json)
        return
    wanted = Wanted(
        resolved.settings, place, prefect_port, limit, has_gpu=gpu, has_teacher=not no_teacher,
        sets=tuple(sets or ()), config=config,
    )  # fmt: skip
    run = start_detached if detach else start
    run(wanted, lambda text: typer.echo(text))


def down(state: StateOption = None, config: ConfigOption = None, store: StoreOption = None) -> None:
    """Stop what `evoloom up` runs, runs in progress with their grace time, and wait until no process of
    it is left; also what a killed `up` has left."""
    from flows.up.start import stop
    from pipeline.config import resolve

    place = place_of(state, store_path(store, config))
    stop(place, resolve({}, config).settings.run.grace_s, lambda text: typer.echo(text))


def place_of(state: Path | None, store: Path) -> Place:
    """The state's folder: given, or beside the store."""
    from flows.up.place import Place

    return Place((state or store.with_name(f"{store.name}.up")).absolute())


def _show(place: Place, *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    said = place.read_status()
    living = place.supervisor()
    if living is None or said is None:
        value: dict[str, Any] = {"state": "down", "pid": None, "addresses": {}, "services": []}
    else:
        value = asdict(said)
    if as_json:
        typer.echo(json.dumps(value, indent=2))
    elif living is None:
        typer.echo(f"nothing runs here ({place.path})")
    else:
        typer.echo(f"{value['state']}, process {value['pid']}; logs are in {place.path / 'logs'}")
        for name, address in value["addresses"].items():
            typer.echo(f"  {name:<12} {address}")
        for row in value["services"]:
            again = _times(row["restarts"])
            why = f" ({row['message']})" if row["message"] else ""
            pid = f", process {row['pid']}" if row["pid"] else ""
            typer.echo(f"  {row['name']:<12} {row['state']}{pid}{again}{why}")
    if value["state"] != "up" or any(row["state"] != "healthy" for row in value["services"]):
        raise typer.Exit(1)


def _times(restarts: int) -> str:
    if not restarts:
        return ""
    return ", started again " + ("once" if restarts == 1 else f"{restarts} times")
