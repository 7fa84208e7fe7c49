"""Every setting of evoloom: TOML file < environment < flags, each value with where it came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource
from pydantic_settings import SettingsConfigDict as SettingsConfig

from pipeline.errors import UsageError
from pipeline.sections import (
    CapSettings,
    NoveltySettings,
    PriceSettings,
    PromptSettings,
    RunSettings,
    SeedSettings,
    StoreSettings,
    TeacherSettings,
)
from pipeline.self_instruct.filter_settings import InstanceFilters, InstructionFilters
from pipeline.self_instruct.settings import SelfInstructSettings
from pipeline.teacher.engine_settings import EngineSettings

PREFIX = "EVOLOOM_"
DEFAULT_FILE = Path("evoloom.toml")
_OPERATIONAL_SECTIONS = ("engine",)


class Settings(BaseSettings):
    """All settings, by section."""

    model_config = SettingsConfig(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

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
    novelty: NoveltySettings = Field(default_factory=NoveltySettings)
    store: StoreSettings = Field(default_factory=StoreSettings)

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
    # A layer may set one value of a group: the group's other values are this group's defaults.
    _merge(merged, Settings().model_dump())
    _merge(merged, base or {})
    for name, layer in _layers(flags or {}, config_file):
        if flags_only and name != "flag":
            continue
        _merge(merged, layer)
        for key, _ in flatten(layer):
            sources[key] = f"environment {_env_name(key)}" if name == "environment" else name
    try:
        return Resolved(Settings(**merged), sources)
    except ValidationError as exc:
        raise UsageError(_explain(exc, sources)) from exc


def _layers(
    flags: Mapping[str, Any], config_file: Path | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    path = config_file or (Path(os.environ["EVOLOOM_CONFIG"])
                           if os.environ.get("EVOLOOM_CONFIG") else None)  # fmt: skip
    if path is not None or DEFAULT_FILE.exists():
        path = path or DEFAULT_FILE
        yield f"file {path}", _read_toml(path)
    yield "environment", _read_environment()
    nested: dict[str, Any] = {}
    for key, value in flags.items():
        *parents, leaf = key.split(".")
        place = nested
        for part in parents:
            place = place.setdefault(part, {})
        place[leaf] = value
    yield "flag", nested


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise UsageError(f"configuration file {path}: {exc.strerror or exc}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"configuration file {path} is not valid TOML: {exc}") from exc


def _read_environment() -> dict[str, Any]:
    sections = Settings.model_fields
    for name in os.environ:
        section, nested, _ = name.removeprefix(PREFIX).partition("__")
        if name.startswith(PREFIX) and nested and section.lower() not in sections:
            raise UsageError(
                f"environment variable {name}: there is no section '{section.lower()}'; "
                f"the sections are {', '.join(sections)}"
            )
    try:
        return EnvSettingsSource(Settings)()
    except Exception as exc:
        raise UsageError(f"environment: {exc}") from exc


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
    """Yield (dotted key, value) of every leaf of a nested mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def parse_flag(text: str) -> tuple[str, Any]:
    """Read `KEY=VALUE` of `--set`; VALUE is read as TOML where it is TOML, else as plain text.

    Raises:
        UsageError: there is no `=` or no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text}: write it as SECTION.KEY=VALUE, e.g. novelty.threshold=0.8")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def operational_keys(model: type[BaseModel] = Settings, prefix: str = "") -> frozenset[str]:
    """Dotted keys that may differ on resume."""
    return frozenset(key for key, operational in _leaves(model, prefix, False) if operational)


def known_keys() -> frozenset[str]:
    """Every dotted key there is."""
    return frozenset(key for key, _ in _leaves(Settings, "", False))


def _leaves(
    model: type[BaseModel], prefix: str, operational: bool
) -> Iterator[tuple[str, bool]]:
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        here = operational or prefix + name in _OPERATIONAL_SECTIONS
        here = here or (isinstance(extra, dict) and bool(extra.get("operational")))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.", here)
        else:
            yield prefix + name, here


def dump(settings: Settings) -> dict[str, Any]:
    """The settings as the manifest keeps them: JSON values, no secret."""
    values = settings.model_dump(mode="json")
    values["teacher"].pop("api_key")
    return values


def _env_name(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")


def _explain(exc: ValidationError, sources: Mapping[str, str]) -> str:
    lines = []
    for error in exc.errors():
        key = ".".join(str(part) for part in error["loc"])
        where = next((text for name, text in sources.items()
                      if key == name or key.startswith(f"{name}.")), "")  # fmt: skip
        where = f" ({where})" if where else ""
        if error["type"] == "extra_forbidden":
            lines.append(f"unknown setting '{key}'{where}{_did_you_mean(key)}")
        else:
            lines.append(f"setting '{key}'{where}: {error['msg']}, got {error['input']!r}")
    return "\n".join(lines)


def _did_you_mean(key: str) -> str:
    import difflib

    near = difflib.get_close_matches(key, sorted(known_keys()), n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return "; `evoloom config show` lists all settings"


__all__ = ["Resolved", "Settings", "dump", "flatten", "known_keys", "load_settings",
           "operational_keys", "parse_flag", "resolve"]  # fmt: skip
