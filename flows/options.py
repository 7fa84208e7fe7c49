"""Options that several commands share, and how they become settings. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipeline.config import Resolved

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", help="DuckDB file; run directories lie beside it. [default: evoloom.duckdb]"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as novelty.threshold=0.8."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="TOML file with settings. [default: evoloom.toml, if it exists]",
        callback=lambda file: _remember(file),
    ),
]


def _remember(config_file: Path | None) -> Path | None:
    from flows import logs

    logs.choose_by(config_file)
    return config_file


def flags(sets: list[str] | None, store: Path | None, **named: Any) -> dict[str, Any]:
    """Settings of the flags that were given, by dotted key; `named` with `__` for the dot."""
    from pipeline.config import parse_flag

    values = dict(parse_flag(text) for text in sets or ())
    values.update({key.replace("__", "."): value for key, value in named.items()
                   if value is not None})  # fmt: skip
    if store is not None:
        values["store.path"] = store
    if values.get("log.format") in ("text", "json"):
        from flows import logs

        logs.choose(values["log.format"])
    return values


def settings_of(
    sets: list[str] | None, store: Path | None, config: Path | None, **named: Any
) -> Resolved:
    """The settings in force under the given flags."""
    from pipeline.config import resolve

    return resolve(flags(sets, store, **named), config)


def store_path(store: Path | None, config: Path | None = None) -> Path:
    """The store a command works on: its flag, else what is configured."""
    from pipeline.config import load_settings

    return store if store is not None else load_settings(config_file=config).store.path


def store_flag(store_path: Path) -> str:
    """` --store PATH` for a command that is shown to be typed; nothing where it is the default."""
    import shlex

    from pipeline.sections import StoreSettings

    is_default = store_path == StoreSettings().path
    return "" if is_default else f" --store {shlex.quote(str(store_path))}"
