"""Profiles: TOML files with what a scheduled flow is to do. Their content becomes the parameters of
the deployment, so that no worker needs the file. Knows no Prefect."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import model_validator as validator

from pipeline.config import flatten, resolve
from pipeline.curation.recipe import load_recipe
from pipeline.errors import UsageError

StepName = Literal["self-instruct", "evol-instruct", "curate", "train", "evaluate"]
CHAIN: tuple[StepName, ...] = ("self-instruct", "evol-instruct", "curate", "train", "evaluate")
"""The steps of a nightly chain, in their order."""
Text = Annotated[str, StringConstraints(min_length=1)]
# What pydantic's messages leave open: how the right value is written.
_MESSAGES = {
    "missing": "it is missing and has no default",
    "string_type": 'a text is expected, such as "nightly"',
    "bool_type": "true or false is expected",
    "tuple_type": 'a list is expected, such as ["train", "evaluate"]',
    "list_type": 'a list is expected, such as ["night-1"]',
    "dict_type": "a table is expected, such as [settings.run]",
    "string_too_short": "it must not be empty",
}


class Profile(BaseModel):
    """What every flow can be given: settings by section, on top of the worker's own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    settings: dict[str, Any] = Field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """As the flow takes them; what is not set is left out."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


class EvolutionProfile(Profile):
    """Of `evol-instruct`."""

    @validator(mode="after")
    def _has_source(self) -> Self:
        if not self.settings.get("evol_instruct", {}).get("source"):
            raise ValueError("settings.evol_instruct.source is missing: a run, a dataset or a file")
        return self


class CurationProfile(Profile):
    """Of `curate`."""

    name: Text
    sources: list[Text] = Field(min_length=1)
    recipe: Text = "clean"
    recipe_text: str | None = None


class TrainingProfile(Profile):
    """Of `train-student`."""

    dataset: Text
    preset: bool = False


class EvaluationProfile(Profile):
    """Of `evaluate-student`."""

    training: Text


class StepProfile(Profile):
    """Settings of one step of the chain, on top of those of all."""


class CurateStep(StepProfile):
    """The step `curate`: the dataset's name, and the recipe."""

    dataset: Text = "nightly"
    recipe: Text = "clean"
    recipe_text: str | None = None


class TrainStep(StepProfile):
    """The step `train`."""

    preset: bool = False


class NightlyProfile(Profile):
    """The chain `nightly`: its steps, what the first of them begins with, and how each is set."""

    steps: tuple[StepName, ...] = Field(default=CHAIN, min_length=1, strict=False)
    source: Text | None = None
    student_pool: Literal["gpu"] | None = None
    self_instruct: StepProfile = Field(default_factory=StepProfile)
    evol_instruct: StepProfile = Field(default_factory=StepProfile)
    curate: CurateStep = Field(default_factory=CurateStep)
    train: TrainStep = Field(default_factory=TrainStep)
    evaluate: StepProfile = Field(default_factory=StepProfile)

    @validator(mode="after")
    def _check_chain(self) -> Self:
        if list(self.steps) != [step for step in CHAIN if step in self.steps]:
            raise ValueError(f"steps: each at most once, in this order: {', '.join(CHAIN)}")
        first = self.steps[0]
        if first == "self-instruct" and self.source is not None:
            raise ValueError("source: the chain begins with self-instruct, which takes none")
        if first != "self-instruct" and self.source is None:
            raise ValueError(f"source is missing: {SOURCES[first]} that {first} begins with")
        if "evaluate" in self.steps and "train" not in self.steps and len(self.steps) > 1:
            raise ValueError("steps: evaluate needs train before it, or stands alone with a source")
        for step in CHAIN:
            if (
                step not in self.steps
                and getattr(self, section_of(step)) != type(getattr(self, section_of(step)))()
            ):
                raise ValueError(
                    f"[{section_of(step)}] is given, but {step} is not among the steps: "
                    f"leave the table out, or add {step} to steps"
                )
        return self

    def settings_of(self, step: StepName) -> dict[str, Any]:
        """The settings of a step, by section: its own on top of those of all."""
        own: StepProfile = getattr(self, section_of(step))
        return merged(self.settings, own.settings)


SOURCES: Mapping[StepName, str] = {
    "evol-instruct": "a run that has ended, a dataset or a file",
    "curate": "a run that has ended, or a dataset",
    "train": "a dataset or a run",
    "evaluate": "a finished training",
}
PROFILES: Mapping[str, type[Profile]] = {
    "self-instruct": Profile,
    "evol-instruct": EvolutionProfile,
    "curate": CurationProfile,
    "train-student": TrainingProfile,
    "evaluate-student": EvaluationProfile,
    "nightly": NightlyProfile,
}
"""By the flow's name."""


def section_of(step: StepName) -> str:
    """The table of a step in a profile."""
    return step.replace("-", "_")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values, those of `above` over those of `below`."""
    values = dict(below)
    for key, value in above.items():
        inner = values.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            values[key] = merged(inner, value)
        else:
            values[key] = value
    return values


def by_section(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted settings, as of `--set`, as a profile holds them."""
    values: dict[str, Any] = {}
    for key, value in flags.items():
        place = values
        *parents, leaf = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = str(value) if isinstance(value, Path) else value
    return values


def load_profile(
    flow: str, path: Path | None, settings: Mapping[str, Any] | None = None
) -> Profile:
    """The profile of a flow: a file's, or an empty one, and settings on top of it. A recipe that is a
    file beside it is read into it.

    Raises:
        UsageError: the file cannot be read, or a key or a value in it is wrong; the message names
            file and field.
    """
    where = f"profile {path}" if path else f"flow {flow} without --profile"
    values = merged(_read(path) if path else {}, {"settings": settings} if settings else {})
    folder = path.parent if path else Path()
    for table in (values, values.get("curate")):
        if isinstance(table, dict) and "recipe" in table:
            _take_in_recipe(table, folder, where)
    return read_profile(flow, values, where)


def read_profile(flow: str, values: Mapping[str, Any], where: str) -> Profile:
    """A profile from the values of a file, or from the parameters of a flow run.

    Args:
        where: for messages.

    Raises:
        UsageError: a key or a value is wrong.
    """
    kind = PROFILES[flow]
    try:
        profile = kind.model_validate(values)
    except ValidationError as exc:
        raise UsageError("\n".join(f"{where}: {line}" for line in _explain(exc, kind))) from exc
    _check_settings(profile.settings, f"{where}, settings")
    if isinstance(profile, NightlyProfile):
        for step in profile.steps:
            _check_settings(profile.settings_of(step), f"{where}, settings of {step}")
    return profile


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise UsageError(f"profile {path}: cannot be read: {exc.strerror or exc}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"profile {path}: not valid TOML: {exc}") from exc


def _take_in_recipe(table: dict[str, Any], folder: Path, where: str) -> None:
    recipe = table["recipe"]
    if not isinstance(recipe, str) or "recipe_text" in table:
        return
    file = folder / recipe
    try:
        load_recipe(str(file) if file.is_file() else recipe)
    except UsageError as exc:
        raise UsageError(f"{where}: {exc}") from exc
    if file.is_file():
        table |= {"recipe": file.stem, "recipe_text": file.read_text("utf-8")}


def _check_settings(values: Mapping[str, Any], where: str) -> None:
    given = dict(flatten(values))
    if "teacher.api_key" in given:
        raise UsageError(
            f"{where}: teacher.api_key is a secret, and flow parameters can be read by everybody in "
            "Prefect; give it as EVOLOOM_TEACHER__API_KEY in the environment of the worker"
        )
    try:
        resolve(given, flags_only=True)
    except UsageError as exc:
        lines = str(exc).replace(" (flag)", "").split("\n")
        raise UsageError("\n".join(f"{where}: {line}" for line in lines)) from exc


def _explain(exc: ValidationError, kind: type[Profile]) -> list[str]:
    lines = []
    for error in exc.errors():
        if error["type"] == "too_short" and error["input"]:
            continue  # it only seems so, because what is in it is wrong
        key = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            lines.append(_unknown(error["loc"], kind))
            continue
        message = _MESSAGES.get(error["type"], error["msg"].removeprefix("Value error, "))
        got = "" if error["type"] in ("missing", "value_error") else f", got {error['input']!r}"
        lines.append(f"{key}: {message}{got}" if key else message)
    return lines


def _unknown(place: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    *parents, name = map(str, place)
    for parent in parents:
        inner = kind.model_fields[parent].annotation
        assert isinstance(inner, type) and issubclass(inner, BaseModel)
        kind = inner
    if name == "run_id":
        return (
            "run_id: each flow run makes a run of its own, named after the flow run; to go on with "
            "one that stopped, start a flow run with its run_id"
        )
    near = difflib.get_close_matches(name, kind.model_fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there: {', '.join(kind.model_fields)}"
    return f"{'.'.join([*parents, name])}: unknown key; {hint}"
