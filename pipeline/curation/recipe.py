"""Recipes: TOML files with a list of steps, read so that a mistake names its line."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.curation.step import Step
from pipeline.errors import UsageError
from pipeline.student.settings import TrainingSettings

_KEYS = ("description", "seed", "training", "steps")
# What pydantic's messages leave open: how the right value is written.
_MESSAGES = {
    "string_type": 'a text is expected, such as "words"',
    "int_type": "a whole number is expected",
    "int_from_float": "a whole number is expected",
    "float_type": "a number is expected",
    "bool_type": "true or false is expected",
    "tuple_type": 'a list is expected, such as ["a", "b"]',
    "path_type": 'a path is expected, such as "evaluation.jsonl"',
    "missing": "it has no default and must be set",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Steps in order, and what is recorded beside them.

    `training` are settings of the section `training` by which the dataset is meant to be trained on;
    `folder` is where the file lies, for relative paths among the parameters.
    """

    name: str
    description: str
    steps: tuple[Step, ...]
    seed: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)


def bundled_recipes() -> dict[str, str]:
    """The names of the recipes that come with evoloom, and what they say of themselves."""
    return {
        name: str(tomllib.loads(_bundled_text(name))["description"]) for name in _bundled_names()
    }


def load_recipe(name: str) -> Recipe:
    """Read a recipe: a file, or one of the bundled ones by its name.

    Raises:
        UsageError: there is none, or it has a mistake; the message names file, line and step.
    """
    path = Path(name)
    if path.is_file():
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"recipe {path}: cannot be read: {exc}") from exc
        return parse_recipe(text, str(path), path.stem, path.parent)
    names = _bundled_names()
    if name not in names:
        raise UsageError(
            f"recipe {name!r}: no such file, and none of those that come with evoloom, "
            f"{', '.join(names)}{_near(name, names)}"
        )
    return parse_recipe(_bundled_text(name), f"bundled recipe {name}", name, Path())


def parse_recipe(text: str, where: str, name: str, folder: Path) -> Recipe:
    """Read the text of a recipe.

    Args:
        where: the file, for messages.

    Raises:
        UsageError: it has a mistake.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise UsageError(f"{where}: not valid TOML: {exc}") from exc
    lines = _Lines(where, text)
    for key in values:
        if key not in _KEYS:
            raise UsageError(
                f"{lines.of_key(key)}: unknown key {key!r}{_near(key, _KEYS)}; a recipe has "
                f"{', '.join(_KEYS)}"
            )
    description, seed = values.get("description", ""), values.get("seed", 0)
    if not isinstance(description, str):
        raise UsageError(f"{lines.of_key('description')}: a text is expected, got {description!r}")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise UsageError(f"{lines.of_key('seed')}: a whole number is expected, got {seed!r}")
    given = values.get("steps")
    if not isinstance(given, list) or not given or not all(isinstance(x, dict) for x in given):
        raise UsageError(
            f'{where}: a recipe needs steps, each a table headed [[steps]] with step = "NAME"'
        )
    steps = tuple(_step(value, number, lines) for number, value in enumerate(given, 1))
    _check_scores(steps, lines)
    return Recipe(name, description, steps, seed, _training(values.get("training"), lines), folder)


def _step(value: Mapping[str, Any], number: int, lines: _Lines) -> Step:
    from pipeline.curation.steps import STEPS

    known = ", ".join(STEPS)
    name = value.get("step")
    if not isinstance(name, str):
        raise UsageError(
            f'{lines.of_step(number)}: it needs its name, step = "NAME"; the steps are {known}'
        )
    if name not in STEPS:
        raise UsageError(
            f"{lines.of_step(number, 'step')}: unknown step {name!r}{_near(name, STEPS)}; the steps "
            f"are {known}"
        )
    kind = STEPS[name]
    parameters = {key: item for key, item in value.items() if key != "step"}
    for key in parameters:
        if key not in kind.model_fields:
            there = ", ".join(kind.model_fields) or "none"
            raise UsageError(
                f"{lines.of_step(number, key)}: {name} has no parameter {key!r}"
                f"{_near(key, kind.model_fields)}; it has {there}"
            )
    try:
        # As JSON, because pydantic's strict mode then takes a list for a tuple, and nothing else.
        return kind.model_validate_json(json.dumps(parameters, default=str), strict=True)
    except ValidationError as exc:
        raise UsageError(_explain(exc, name, number, lines)) from exc


def _explain(exc: ValidationError, name: str, number: int, lines: _Lines) -> str:
    found = []
    for error in exc.errors():
        key = str(error["loc"][0]) if error["loc"] else None
        message = _MESSAGES.get(error["type"], error["msg"].removeprefix("Value error, "))
        got = f", got {error['input']!r}" if key and error["type"] != "missing" else ""
        what = f" {'.'.join(map(str, error['loc']))}" if key else ""
        found.append(f"{lines.of_step(number, key)}: {name}{what}: {message}{got}")
    return "\n".join(found)


def _check_scores(steps: Sequence[Step], lines: _Lines) -> None:
    from pipeline.curation.steps import STEPS

    made: list[str] = []
    for number, step in enumerate(steps, 1):
        for score in step.needs():
            if score not in made:
                makers = [name for name, kind in STEPS.items() if score in kind.makes]
                remedy = (
                    f"put the step {' or '.join(makers)} before it" if makers
                    else f"scores are {', '.join(sorted({s for k in STEPS.values() for s in k.makes}))}"
                )  # fmt: skip
                raise UsageError(
                    f"{lines.of_step(number)}: {step.step} goes by the score {score!r}, which no "
                    f"earlier step makes; {remedy}"
                )
        made += step.gives()


def _training(value: Any, lines: _Lines) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{lines.of_key('training')}: a table headed [training] is expected")
    known = TrainingSettings.model_fields
    for key in value:
        if key not in known:
            raise UsageError(
                f"{lines.of_key(key)}: there is no setting training.{key}{_near(key, known)}"
            )
    try:
        TrainingSettings.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as exc:
        error = exc.errors()[0]
        key = str(error["loc"][0])
        message = _MESSAGES.get(error["type"], error["msg"])
        raise UsageError(
            f"{lines.of_key(key)}: training.{key}: {message}, got {error['input']!r}"
        ) from exc
    return dict(value)


class _Lines:
    """Where things stand in the text of a recipe, for messages."""

    def __init__(self, where: str, text: str) -> None:
        self._where = where
        self._lines = text.splitlines()
        self._heads = [
            number for number, line in enumerate(self._lines, 1)
            if re.match(r"\s*\[\[\s*steps\s*\]\]", line)
        ]  # fmt: skip

    def of_key(self, key: str) -> str:
        """`FILE, line 3`."""
        return self._at(self._find(key, range(1, len(self._lines) + 1)))

    def of_step(self, number: int, key: str | None = None) -> str:
        """`FILE, line 12, step 2`; of a key of the step, if it stands on a line of its own."""
        if number > len(self._heads):  # the steps are written in another of TOML's ways
            return f"{self._where}, step {number}"
        first = self._heads[number - 1]
        last = self._heads[number] if number < len(self._heads) else len(self._lines) + 1
        line = self._find(key, range(first, last)) if key else None
        return f"{self._at(line or first)}, step {number}"

    def _at(self, line: int | None) -> str:
        return f"{self._where}, line {line}" if line else self._where

    def _find(self, key: str, numbers: Iterable[int]) -> int | None:
        pattern = re.compile(rf"""\s*(?:\[+\s*)?["']?{re.escape(key)}["']?\s*[=\].]""")
        return next((n for n in numbers if pattern.match(self._lines[n - 1])), None)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _bundled_names() -> list[str]:
    folder = resources.files("pipeline.curation") / "recipes"
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    )


def _bundled_text(name: str) -> str:
    folder = resources.files("pipeline.curation") / "recipes"
    return (folder / f"{name}.toml").read_text("utf-8")
