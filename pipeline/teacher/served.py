"""What a pre-flight finds at an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that will answer; `owner` is what the endpoint says of it (`vllm` from vLLM).

    `stages` are the models that answer single stages in its place.
    """

    name: str
    owner: str = ""
    stages: Mapping[str, ServedModel] = field(default_factory=dict)
