"""`evoloom teacher start | stop | status`: keep the local engine running between commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.teacher.engine import EngineStatus
    from pipeline.teacher.engine_settings import EngineSettings

teacher_app = typer.Typer(
    help="The local engine: keep it running between commands.", no_args_is_help=True
)


@teacher_app.callback()
def teacher_group() -> None:
    """The local engine: keep it running between commands.

    A run starts the engine by itself and stops it afterwards. Starting takes a minute or two, which
    `start` saves to all runs until `stop`.
    """


@teacher_app.command("start")
def start(sets: SetOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Start the local engine and keep it running until `evoloom teacher stop`."""
    from pipeline.teacher.holding import hold_engine

    # Progress goes to standard error, so that what is printed can be read by a program.
    held = hold_engine(_settings(sets, config), on_progress=lambda line: typer.echo(line, err=True))
    values = {
        "base_url": held.engine.base_url,
        "model": held.engine.model,
        "log": str(held.engine.log_path),
    }
    if as_json:
        _print_json({"already_running": held.was_held, **values})
        return
    typer.echo("the engine is running already" if held.was_held else "the engine is running")
    _print_rows(values)


@teacher_app.command("serve")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 8000,
    sets: SetOption = None,
    config: ConfigOption = None,
) -> None:
    """Be the engine, in the foreground, as the teacher of other processes and machines.

    It is vLLM with the settings of the section engine, until SIGTERM or Ctrl-C; others name it as
    teacher.base_url, such as http://HOST:8000/v1. Where teacher.api_key is set, every request needs it;
    on an address that is no loopback it has to be.
    """
    import os

    from flows.options import settings_of
    from pipeline.teacher.engine_command import serving_command

    settings = settings_of(sets, None, config).settings
    key = settings.teacher.api_key
    command = serving_command(
        settings.engine, host, port, key.get_secret_value() if key else None,
        lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    # In this process's place, so that signals and restarts reach vLLM itself. No shell: a list of our
    # own.
    os.execve(command.argv[0], command.argv, {**os.environ, **command.environment})  # noqa: S606


@teacher_app.command("stop")
def stop(sets: SetOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Let go of the engine; it stops unless a run still uses it."""
    from pipeline.teacher.holding import release_engine

    released = release_engine(_settings(sets, config))
    if as_json:
        _print_json({"was_running": released.was_held, **_values(released.status)})
    elif not released.was_held:
        in_use = f"; one is in use by {_users(released.status)} and stops by itself afterwards"
        typer.echo(
            "`evoloom teacher start` keeps no engine running"
            + (in_use if released.status.users else "")
        )
    elif released.status.users:
        typer.echo(
            f"let go; the engine goes on for {_users(released.status)} and stops by itself "
            "afterwards"
        )
    elif released.status.state == "stopping":
        typer.echo("let go; the engine is stopping")
    else:
        typer.echo("the engine is stopped")


@teacher_app.command("status")
def status(
    sets: SetOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show whether the local engine runs, where it answers and who uses it."""
    from pipeline.teacher.engine import engine_folder, engine_status
    from pipeline.teacher.holder import is_held

    settings = _settings(sets, config)
    values = _values(engine_status(settings))
    values["kept_running"] = is_held(engine_folder(settings))
    if as_json:
        _print_json(values)
    else:
        _print_rows({key: value for key, value in values.items() if value not in (None, "")})


def _settings(sets: list[str] | None, config: Path | None) -> EngineSettings:
    from flows.options import settings_of

    return settings_of(sets, None, config).settings.engine


def _values(status: EngineStatus) -> dict[str, Any]:
    return {
        "state": status.state,
        "base_url": status.base_url,
        "model": status.model,
        "pid": status.pid,
        "port": status.port,
        "started_at": status.started_at,
        "users": status.users,
        "message": status.message,
        "log": str(status.log_path),
    }


def _users(status: EngineStatus) -> str:
    return "one user" if status.users == 1 else f"{status.users} users"


def _print_json(values: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(values, indent=2))


def _print_rows(values: dict[str, Any]) -> None:
    width = max(len(key) for key in values)
    for key, value in values.items():
        typer.echo(f"{key:<{width}}  {value}")
