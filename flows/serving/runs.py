"""Which runs may be asked for over REST: what a request may set, and the seeds it stands on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.methods import METHODS
from flows.sources import pin_names
from pipeline.config import Settings, dump, flatten, resolve
from pipeline.errors import UsageError
from pipeline.evol_instruct import manifest as evol_instruct
from pipeline.records import SeedTask
from store.run_directory import runs_directory
from store.run_names import is_known

_OPEN_SECTIONS = ("self_instruct", "evol_instruct", "filters", "instance_filters", "caps")
_OPEN_KEYS = frozenset(
    {"run.target", "run.seed", "run.window", "run.ceiling", "novelty.threshold",
     "novelty.at_threshold", "novelty.tokenizer", "novelty.against"}
)  # fmt: skip
"""What a request may set. Not: where the teacher is (it would be sent the service's key), what is
read from the disk, what is started on the machine, and how the service itself is run."""


class SettingError(UsageError):
    """Raised for a setting of a request that is not open to it; `key` is its dotted name."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def is_open(key: str) -> bool:
    """Whether a request may set a setting."""
    return key in _OPEN_KEYS or key.split(".")[0] in _OPEN_SECTIONS


def settings_of_request(base: Settings, given: Mapping[str, Any]) -> Settings:
    """The service's settings with those of a request on top.

    Args:
        given: by section, such as `{"novelty": {"threshold": 0.6}}`.

    Raises:
        SettingError: one is not open to requests.
        UsageError: one is unknown or wrong; the message names it.
    """
    flat = dict(flatten(given))
    for key in flat:
        if not is_open(key):
            raise SettingError(
                key,
                f"setting '{key}' cannot be set by a request; open are the sections "
                f"{', '.join(_OPEN_SECTIONS)} and {', '.join(sorted(_OPEN_KEYS))}",
            )
    return resolve(flat, base=base.model_dump(), flags_only=True).settings


def check_run(method: str, run_id: str, settings: Settings, seeds: Sequence[SeedTask]) -> Settings:
    """Check all that can be wrong with a run before it is queued; returns the settings with names
    pinned to what they mean now.

    Args:
        seeds: of the seed set; none: those that are configured.

    Raises:
        UsageError: seeds, source or templates are not usable; the message names the setting.
    """
    store_path = settings.store.path
    if method == evol_instruct.KIND:
        source = settings.evol_instruct.source
        # A run's name, never a file of this machine.
        if source is None or not is_known(runs_directory(store_path), source):
            raise SettingError(
                "evol_instruct.source",
                "evol_instruct.source: name a run that has ended or a dataset version"
                + (f"; {source!r} is neither" if source else ""),
            )
    pinned = pin_names(settings)
    if seeds:
        with _temporary_seeds(seeds) as file:
            METHODS[method].check(run_id, with_seeds(pinned, Path(file.name)))
    else:
        METHODS[method].check(run_id, pinned)
    return pinned


def with_seeds(settings: Settings, path: Path) -> Settings:
    """The settings with another seed file."""
    return settings.model_copy(update={"seeds": settings.seeds.model_copy(update={"file": path})})


def encode_seeds(seeds: Sequence[SeedTask]) -> str:
    """Seed tasks as a seed file has them."""
    return "".join(json.dumps(seed.to_json(), ensure_ascii=False) + "\n" for seed in seeds)


def dumped(settings: Settings) -> dict[str, Any]:
    """The settings as the service's database keeps them: no secret."""
    return dump(settings)


def _temporary_seeds(seeds: Sequence[SeedTask]) -> Any:
    from tempfile import NamedTemporaryFile

    file = NamedTemporaryFile("w", encoding="utf-8", suffix=".jsonl")  # noqa: SIM115
    file.write(encode_seeds(seeds))
    file.flush()
    return file
