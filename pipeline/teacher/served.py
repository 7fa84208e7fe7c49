"""What a pre-flight finds at an endpoint."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model that will answer; `owner` is what the endpoint says of it (`vllm` from vLLM)."""

    name: str
    owner: str = ""
