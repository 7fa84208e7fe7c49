"""Parameters of flow runs, as Prefect keeps them for everybody to read. Knows no Prefect."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import SECRET_KEYS, Settings, flatten, resolve
from pipeline.errors import UsageError

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def checked_run_id(run_id: str) -> str:
    """The run id, if it can name a folder.

    Raises:
        UsageError: it cannot.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"run id {run_id!r}: letters, digits, '.', '_' and '-' are allowed, the first being a "
            "letter or a digit, up to 200 of them"
        )
    return run_id


def resolve_parameters(values: Mapping[str, Any]) -> Settings:
    """The settings of a flow run: its parameters on top of the environment and the file.

    Raises:
        UsageError: a setting is unknown or wrong, or a secret is among the parameters.
    """
    return resolve(dict(public_settings(values))).settings


def public_settings(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Settings by section, as flow parameters hold them, by dotted key.

    Raises:
        UsageError: a secret is among them.
    """
    found = list(flatten(values))
    told = [key for key, value in found if key in SECRET_KEYS and value is not None]
    if told:
        raise UsageError(
            f"{told[0]} is a flow parameter, which everybody can read in Prefect; change the key "
            f"and give it as EVOLOOM_{told[0].upper().replace('.', '__')} in the environment of the "
            "worker"
        )
    return found


def setting_flags(values: Mapping[str, Any]) -> list[str]:
    """Settings by section as `--set` flags; unset ones are left out.

    Raises:
        UsageError: a secret is among them.
    """
    flags = []
    for key, value in public_settings(values):
        if value is not None and value != {}:
            flags += ["--set", f"{key}={_toml(value)}"]
    return flags


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = (f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()
                 if item is not None)  # fmt: skip
        return f"{{{', '.join(inner)}}}"
    # JSON of a text, a number, a truth or a list is TOML.
    return json.dumps(value, ensure_ascii=False)


def curate_arguments(
    name: str, sources: Sequence[str], recipe: str, store_path: Path, progress: Path,
    settings: Mapping[str, Any],
) -> list[str]:  # fmt: skip
    """`evoloom curate` as a flow gives it, without `evoloom`."""
    return [
        "curate", *sources, "--recipe", recipe, "--name", name, "--json", "--quiet",
        "--progress", str(progress), "--store", str(store_path), *setting_flags(settings),
    ]  # fmt: skip


def train_arguments(
    dataset: str, run_id: str, store_path: Path, settings: Mapping[str, Any], *, preset: bool
) -> list[str]:
    """`evoloom train` as a flow gives it, without `evoloom`."""
    return [
        "train", dataset, "--run-id", run_id, "--json", "--quiet",
        *(["--preset"] if preset else []), "--store", str(store_path), *setting_flags(settings),
    ]  # fmt: skip


def evaluate_arguments(
    training: str, run_id: str, store_path: Path, settings: Mapping[str, Any]
) -> list[str]:
    """`evoloom evaluate` as a flow gives it, without `evoloom`."""
    return [
        "evaluate", training, "--run-id", run_id, "--json", "--quiet", "--store", str(store_path),
        *setting_flags(settings),
    ]  # fmt: skip


def recipe_file(recipe: str, text: str | None, folder: Path) -> str:
    """What names a recipe to `evoloom curate`: its name, or the file that its text is written to."""
    if text is None:
        return recipe
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{Path(recipe).stem}.toml"
    path.write_text(text, "utf-8")
    return str(path)
