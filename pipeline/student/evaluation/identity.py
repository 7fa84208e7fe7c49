"""What makes a scoring the same as another: a configuration scores an evaluation file once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Configuration:
    """A student as it answers.

    `adapter_hash` is None for the base; `engine` is `vllm` or `transformers`; `decoding` holds all
    that the answers depend on beside the weights: template, longest answer, number format.
    """

    base_hash: str
    adapter_hash: str | None
    engine: str
    decoding: Mapping[str, Any]


def scoring_key(configuration: Configuration, file_sha256: str) -> str:
    """The identity of a scoring: a configuration and an evaluation file."""
    value = {
        "base": configuration.base_hash,
        "adapter": configuration.adapter_hash,
        "engine": configuration.engine,
        "decoding": dict(configuration.decoding),
        "file": file_sha256,
    }
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
