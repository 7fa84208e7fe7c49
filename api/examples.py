"""Examples in the OpenAPI document: one request and one answer for every operation."""

from __future__ import annotations

from typing import Any


def add_examples(document: dict[str, Any]) -> None:
    pass
