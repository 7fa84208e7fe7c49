"""`evoloom config show`."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, SetOption, StoreOption, settings_of

app = typer.Typer(help="Settings.", no_args_is_help=True)


@app.callback()
def config_group() -> None:
    """Settings."""


@app.command("show")
def show(
    section: Annotated[str | None, typer.Argument(help="Only this section or setting.")] = None,
    sets: SetOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Each setting, its value and where it came from (default, file, environment, flag)."""
    import json

    from pipeline.config import flatten, known_keys, operational_keys
    from pipeline.errors import UsageError

    resolved = settings_of(sets, store, config)
    operational = operational_keys()
    known = known_keys()
    rows = [
        (key, value, resolved.sources.get(key, "default"), key in operational)
        for key, value in flatten(resolved.settings.model_dump(mode="json"))
        if key in known  # a group with nothing in it is no setting
        if section is None or key == section or key.startswith(f"{section}.")
    ]
    if not rows:
        sections = ", ".join(type(resolved.settings).model_fields)
        raise UsageError(f"there is no section or setting '{section}'; the sections are {sections}")
    if as_json:
        value = {
            key: {"value": value, "source": source, "operational": free}
            for key, value, source, free in rows
        }
        typer.echo(json.dumps(value, ensure_ascii=False, indent=2))  # fmt: skip
        return
    for key, value, source, _ in rows:
        typer.echo(f"{key} = {json.dumps(value, ensure_ascii=False)}   [{source}]")
