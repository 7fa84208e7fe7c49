"""`evoloom schedule`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from flows.options import JsonOption, SetOption, StoreOption

if TYPE_CHECKING:
    from datetime import datetime

    from flows.schedules import Schedule

app = typer.Typer(help="Schedules on a Prefect server.", no_args_is_help=True)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The schedule, as NAME or FLOW/NAME.")
]


@app.callback()
def schedule_group() -> None:
    """Schedules on the Prefect server at PREFECT_API_URL; workers (`evoloom worker`) execute them."""


@app.command("add")
def add(
    flow: Annotated[
        str,
        typer.Argument(
            metavar="FLOW",
            help="nightly, self-instruct, evol-instruct, curate, train-student or evaluate-student.",
        ),
    ],
    name: Annotated[str, typer.Option(help="The schedule's name; one of this name is replaced.")],
    cron: Annotated[str, typer.Option(help="When, such as '0 0 * * *' for every midnight.")],
    timezone: Annotated[str, typer.Option(help="Time zone of the cron, an IANA name.")] = "UTC",
    profile: Annotated[
        Path | None, typer.Option(help="TOML file with the flow's parameters (docs/SCHEDULES.md).")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="Work pool: cpu or gpu. [default: the flow's own]")
    ] = None,
    sets: SetOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a flow executed at set times. Needs no profile file later: its content is kept in Prefect.

    Flow runs of schedules on the same store wait for each other (setting schedule.runs_per_store).
    """
    from flows.deployments import workers_online
    from flows.options import flags
    from flows.profiles import by_section
    from flows.schedules import add_schedule

    settings = by_section(flags(sets, store))
    made = add_schedule(flow, name, cron, timezone, profile, settings, pool)
    if as_json:
        _print_json([made])
        return
    typer.echo(
        f"{made.full_name}: {made.cron} {made.timezone}, pool {made.pool}, store {made.store}"
    )
    typer.echo(f"next: {', '.join(_local(at, made) for at in made.next)}")
    folder = Path(made.store).parent
    if not folder.is_dir():
        typer.echo(f"\nthere is no folder {folder} on this machine: the worker's machine needs it")
    if not workers_online(made.pool):
        typer.echo(f"\nneeds a worker: evoloom worker --pool {made.pool}")


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List the schedules: when next, how the last flow run ended."""
    from flows.prefect_server import configured_server
    from flows.schedules import list_schedules

    configured_server()
    found = list_schedules()
    if as_json:
        _print_json(found)
        return
    if not found:
        typer.echo("no schedules; `evoloom schedule add` makes one")
        return
    rows = [("schedule", "cron", "time zone", "pool", "next (UTC)", "last", "store")]
    rows += [
        (
            one.full_name, one.cron, one.timezone, one.pool,
            "paused" if one.is_paused else _time(one.next[0]) if one.next else "-",
            f"{one.last.state} {_time(one.last.at)}" if one.last and one.last.at else "-",
            one.store,
        )
        for one in found
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


@app.command("pause")
def pause(name: NameArgument, as_json: JsonOption = False) -> None:
    """Schedule no more flow runs; what is being executed goes on."""
    _set_paused(name, paused=True, as_json=as_json)


@app.command("resume")
def resume(name: NameArgument, as_json: JsonOption = False) -> None:
    """Schedule flow runs again."""
    _set_paused(name, paused=False, as_json=as_json)


@app.command("run")
def run(
    name: NameArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
) -> None:
    """Start a flow run of a schedule now, also of a paused one."""
    from flows.deployments import workers_online
    from flows.prefect_server import configured_server
    from flows.schedules import find_schedule, run_schedule, wait_for

    configured_server()
    pool = find_schedule(name).pool
    flow_run_id, flow_run_name = run_schedule(name)
    typer.echo(f"flow run {flow_run_id} ({flow_run_name})")
    if not workers_online(pool):
        typer.echo(
            f"no worker of the pool {pool} is at work: evoloom worker --pool {pool}", err=True
        )
    if wait:
        typer.echo(wait_for(flow_run_id, lambda state: typer.echo(state.lower(), err=True)))


@app.command("remove")
def remove(name: NameArgument) -> None:
    """Remove a schedule; the flow runs that were executed stay."""
    from flows.prefect_server import configured_server
    from flows.schedules import remove_schedule

    configured_server()
    typer.echo(f"removed {remove_schedule(name)}")


def _set_paused(name: str, *, paused: bool, as_json: bool) -> None:
    from flows.prefect_server import configured_server
    from flows.schedules import pause_schedule

    configured_server()
    changed = pause_schedule(name, paused=paused)
    if as_json:
        _print_json([changed])
    else:
        when = "paused" if changed.is_paused else f"next {_local(changed.next[0], changed)}"
        typer.echo(f"{changed.full_name}: {when}")


def _local(at: datetime, schedule: Schedule) -> str:
    """A time in the schedule's own time zone."""
    return f"{at.astimezone(ZoneInfo(schedule.timezone)):%Y-%m-%d %H:%M %Z}"


def _time(at: object) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _print_json(schedules: list[Schedule]) -> None:
    import json
    from dataclasses import asdict

    values = [{"full_name": one.full_name, **asdict(one)} for one in schedules]
    typer.echo(json.dumps(values, default=lambda at: at.isoformat(), ensure_ascii=False))
