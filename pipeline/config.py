"""Every setting of evoloom: TOML file < environment < flags, each value with where it came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from pydantic_settings import SettingsConfigDict as SettingsConfig

from pipeline.api_settings import ApiSettings
from pipeline.errors import UsageError
from pipeline.estimate_settings import EstimateSettings
from pipeline.evol_instruct.settings import EvolInstructSettings
from pipeline.schedule_settings import ScheduleSettings
from pipeline.secret_files import SUFFIX, find_secret
from pipeline.sections import (
    CapSettings,
    LogSettings,
    NoveltySettings,
    Prices,
    PriceSettings,
    PromptSettings,
    RunSettings,
    SeedSettings,
    StageTeacher,
    StageTeachers,
    StoreSettings,
    TeacherSettings,
)
from pipeline.self_instruct.filter_settings import InstanceFilters, InstructionFilters
from pipeline.self_instruct.settings import SelfInstructSettings
from pipeline.student.evaluation.settings import EvaluationSettings
from pipeline.student.methods import MethodsSettings
from pipeline.student.settings import TrainingSettings
from pipeline.teacher.engine_settings import EngineSettings

PREFIX = "EVOLOOM_"
DEFAULT_FILE = Path("evoloom.toml")
_OPERATIONAL_SECTIONS = ("engine", "api", "schedule")
SECRET_KEYS = frozenset({"teacher.api_key", "api.admin_key"})
"""Settings that are never written to a manifest and never printed; `EVOLOOM_SECTION__KEY_FILE` names a
file that holds one."""
# A key may have been written where the name of its variable belongs.
_SECRET_LEAVES = (*SECRET_KEYS, ".api_key_variable")
# Tables with names of the user's own in them, which may hold dots: each is one setting.
_TABLES = ("prices.models",)
# Variables that are no settings: what `make setup` and `resolve` read.
_OTHER_VARIABLES = frozenset({"EVOLOOM_CONFIG", "EVOLOOM_TORCH_INDEX"})


class Settings(BaseSettings):
    """All settings, by section."""

    model_config = SettingsConfig(extra="forbid", frozen=True)

    run: RunSettings = Field(default_factory=RunSettings)
    teacher: TeacherSettings = Field(default_factory=TeacherSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    caps: CapSettings = Field(default_factory=CapSettings)
    prices: PriceSettings = Field(default_factory=PriceSettings)
    seeds: SeedSettings = Field(default_factory=SeedSettings)
    prompts: PromptSettings = Field(default_factory=PromptSettings)
    self_instruct: SelfInstructSettings = Field(default_factory=SelfInstructSettings)
    filters: InstructionFilters = Field(default_factory=InstructionFilters)
    instance_filters: InstanceFilters = Field(default_factory=InstanceFilters)
    evol_instruct: EvolInstructSettings = Field(default_factory=EvolInstructSettings)
    novelty: NoveltySettings = Field(default_factory=NoveltySettings)
    estimate: EstimateSettings = Field(default_factory=EstimateSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    methods: MethodsSettings = Field(default_factory=MethodsSettings)
    store: StoreSettings = Field(default_factory=StoreSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `resolve` hands in: it merges the layers, and remembers where each is from."""
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings with, for each key that was set, the layer it came from."""

    settings: Settings
    sources: Mapping[str, str]
    """Dotted key to 'FILE', 'environment NAME' or 'flag'; a key not in it has its default."""


def load_settings(
    flags: Mapping[str, Any] | None = None, config_file: Path | None = None
) -> Settings:
    """The settings in force; see `resolve`."""
    return resolve(flags, config_file).settings


def resolve(
    flags: Mapping[str, Any] | None = None,
    config_file: Path | None = None,
    base: Mapping[str, Any] | None = None,
    *,
    flags_only: bool = False,
) -> Resolved:
    """Merge TOML file, environment and flags, the later over the earlier, and validate.

    Args:
        flags: dotted key to value, such as `{"novelty.threshold": 0.8}`.
        config_file: the TOML file; None: `EVOLOOM_CONFIG`, else `./evoloom.toml` if it exists.
        base: nested settings below all layers (a manifest's, on resume).
        flags_only: leave file and environment out.

    Raises:
        UsageError: an unknown setting, a value of the wrong type or out of range, a file that
            cannot be read; the message names the setting and where it came from.
    """
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    given: dict[str, tuple[str, Any]] = {}
    # A layer may set one value of a group: the group's other values are this group's defaults.
    _merge(merged, Settings().model_dump())
    _merge(merged, base or {})
    for name, layer in _layers(flags or {}, config_file):
        if flags_only and name != "flag":
            continue
        _replace_alternatives(merged, layer)
        _merge(merged, layer)
        for key, value in flatten(layer):
            sources[key] = f"environment {_variable_of(key)}" if name == "environment" else name
            given[key] = (sources[key], value)
    _refuse_mistakes(given)
    try:
        return Resolved(Settings(**merged), sources)
    except ValidationError as exc:
        raise UsageError(_explain(exc, sources)) from exc


def _replace_alternatives(merged: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Where one teacher is named, in place of several or the other way round, the earlier layer's
    goes."""
    given = layer.get("teacher")
    if isinstance(given, Mapping):
        if given.get("base_url") and not given.get("endpoints"):
            merged["teacher"]["endpoints"] = ()
        if given.get("endpoints") and not given.get("base_url"):
            merged["teacher"]["base_url"] = None


def _layers(
    flags: Mapping[str, Any], config_file: Path | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    path = config_file or (Path(os.environ["EVOLOOM_CONFIG"])
                           if os.environ.get("EVOLOOM_CONFIG") else None)  # fmt: skip
    if path is not None or DEFAULT_FILE.exists():
        path = path or DEFAULT_FILE
        yield f"file {path}", _read_toml(path)
    yield "environment", _nested(_read_environment())
    yield "flag", _nested(flags)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *parents, leaf = _parts(key)
        place = nested
        for part in parents:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        place[leaf] = value
    return nested


def _parts(key: str) -> list[str]:
    for table in _TABLES:
        if key.startswith(f"{table}."):
            name, _, field = key.removeprefix(f"{table}.").rpartition(".")
            return [*table.split("."), *filter(None, (name, field))]
    return key.split(".")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise UsageError(f"configuration file {path}: {exc.strerror or exc}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"configuration file {path} is not valid TOML: {exc}") from exc


def _read_environment() -> dict[str, Any]:
    """Values by dotted key; a value is read as that of `--set` is."""
    files = {_env_name(key) + SUFFIX: key for key in SECRET_KEYS}
    values: dict[str, Any] = {}
    for name, text in os.environ.items():
        if not name.startswith(PREFIX) or name in _OTHER_VARIABLES or name in files:
            continue
        key = name.removeprefix(PREFIX).lower().replace("__", ".")
        section = key.split(".")[0]
        if section in Settings.model_fields:
            values[key] = read_value(key, text)
            continue
        near = [known for known in known_keys() if known.replace(".", "_") == key.replace(".", "_")]
        sections = ", ".join(Settings.model_fields)
        hint = f"did you mean {_env_name(near[0])}?" if near else f"the sections are {sections}"
        raise UsageError(
            f"environment variable {name}: there is no section '{section}'; write it as "
            f"{PREFIX}SECTION__KEY: {hint}"
        )
    for name, key in files.items():
        if name in os.environ and not os.environ.get(_env_name(key)):
            values[key] = find_secret(_env_name(key))
    return values


def _refuse_mistakes(given: Mapping[str, tuple[str, Any]]) -> None:
    """Refuse unknown names, and what pydantic would take without a word (`true` for a number)."""
    known = {key: annotation for key, annotation, _ in _leaves(Settings, "", False)}
    groups = set(_groups(Settings, ""))
    lines = []
    for key, (source, value) in given.items():
        if key in groups:
            if value != {}:
                inside = ", ".join([name for name in known if name.startswith(f"{key}.")][:3])
                lines.append(
                    f"setting '{key}' ({source}) is a group; set what is in it: {inside} ..."
                )
        elif key not in known:
            lines.append(f"unknown setting '{key}' ({source}){_did_you_mean(key)}")
        elif isinstance(value, bool) and known[key] is not bool:
            lines.append(f"setting '{key}' ({source}): true or false is not expected here")
        elif key in _TABLES and isinstance(value, Mapping):
            lines += [
                f"setting '{key}.{name}' ({source}): true or false is not expected here"
                for name, inner in flatten(value)
                if isinstance(inner, bool)
            ]
    if lines:
        raise UsageError("\n".join(lines))


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value
            if isinstance(value, Mapping):
                into[key] = {}
                _merge(into[key], value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every leaf of a nested mapping; a table of the user's own names
    is a leaf."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value and f"{prefix}{key}" not in _TABLES:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse_flag(text: str) -> tuple[str, Any]:
    """Read `KEY=VALUE` of `--set`; see `read_value`.

    Raises:
        UsageError: there is no `=` or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text}: write it as SECTION.KEY=VALUE, e.g. novelty.threshold=0.8")
    return key.strip(), read_value(key.strip(), value)


def read_value(key: str, text: str) -> Any:
    """A value of a flag or variable: TOML where it is TOML (`0.8`, `true`, `["a", "b"]`), else the
    text as it stands; so too where the setting is a text and the TOML is none (a key of digits).
    """
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if key in _text_keys() and not isinstance(value, str) else value


@cache
def _text_keys() -> frozenset[str]:
    return frozenset(
        key for key, annotation, _ in _leaves(Settings, "", False) if _is_text(annotation)
    )


def _is_text(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return True
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    if get_origin(annotation) is tuple:
        return False
    return all(
        isinstance(kind, type) and issubclass(kind, (str, Path, SecretStr)) for kind in kinds
    )


def operational_keys() -> frozenset[str]:
    """Dotted keys that may differ on resume."""
    return frozenset(key for key, _, operational in _leaves(Settings, "", False) if operational)


@cache
def known_keys() -> frozenset[str]:
    """Every dotted key there is."""
    return frozenset(key for key, _, _ in _leaves(Settings, "", False))


def _leaves(
    model: type[BaseModel], prefix: str, operational: bool
) -> Iterator[tuple[str, Any, bool]]:
    """(dotted key, type, whether operational) of every setting."""
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        here = operational or prefix + name in _OPERATIONAL_SECTIONS
        here = here or (isinstance(extra, dict) and bool(extra.get("operational")))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.", here)
        else:
            yield prefix + name, field.annotation, here


def _groups(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """Dotted names of all groups of settings, also of those with nothing in them."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield f"{prefix}{name}"
            yield from _groups(field.annotation, f"{prefix}{name}.")


def dump(settings: Settings) -> dict[str, Any]:
    """The settings as the manifest keeps them: JSON values, no secret."""
    values = settings.model_dump(mode="json")
    for key in SECRET_KEYS:
        section, name = key.split(".")
        values[section].pop(name)
    return values


def _env_name(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _variable_of(key: str) -> str:
    """The variable that a value of the environment comes from: its own, or that of its file."""
    name = _env_name(key)
    return name if os.environ.get(name) or key not in SECRET_KEYS else name + SUFFIX


# What pydantic's messages leave open: how the right value is written.
_EXAMPLES = {
    "tuple_type": 'a list is expected, such as ["a", "b"]',
    "bool_parsing": "true or false is expected",
    "bool_type": "true or false is expected",
    "string_too_short": "it must not be empty; leave it out instead",
}


def _explain(exc: ValidationError, sources: Mapping[str, str]) -> str:
    lines = []
    for error in exc.errors():
        key = ".".join(str(part) for part in error["loc"])
        near = [text for name, text in sources.items()
                if f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.")]  # fmt: skip
        where = f" ({near[0]})" if near else ""
        message = _EXAMPLES.get(error["type"], error["msg"].removeprefix("Value error, "))
        if error["type"] == "extra_forbidden" and key.startswith(tuple(f"{t}." for t in _TABLES)):
            message = f"unknown; a model's prices are {', '.join(Prices.model_fields)}"
        # A group's value is all of it, and a secret is not shown.
        shows = not isinstance(error["input"], Mapping) and not key.endswith(_SECRET_LEAVES)
        got = f", got {error['input']!r}" if shows else ""
        lines.append(f"setting '{key}'{where}: {message}{got}")
    return "\n".join(lines)


def _did_you_mean(key: str) -> str:
    import difflib

    if key.startswith("teacher.stages."):
        stages = ", ".join(StageTeachers.model_fields)
        fields = ", ".join(StageTeacher.model_fields)
        return f"; it is teacher.stages.STAGE.NAME: the stages are {stages}, the names {fields}"
    near = difflib.get_close_matches(key, sorted(known_keys()), n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return "; `evoloom config show` lists all settings"


__all__ = ["SECRET_KEYS", "Resolved", "Settings", "dump", "flatten", "known_keys", "load_settings",
           "operational_keys", "parse_flag", "read_value", "resolve"]  # fmt: skip
