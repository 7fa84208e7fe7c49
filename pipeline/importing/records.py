"""What travels from a file to the run: rows as they stand there, rows as they are understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Container: TypeAlias = Literal["json_lines", "json_array", "csv", "parquet"]
Reason: TypeAlias = Literal[
    "not_json",
    "not_utf8",
    "null_byte",
    "too_long",
    "wrong_columns",
    "wrong_type",
    "missing_field",
    "unknown_role",
    "wrong_turn_order",
]
"""Why a row cannot be read."""


class BadRowError(Exception):
    """Raised when a row cannot be understood; whoever reads the file makes a `BadRow` of it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


class BrokenFileError(Exception):
    """Raised when a file breaks at a place that cannot be read past: nothing after it is known."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row of a file. `number` counts lines, or rows of an array or table, from 1; `raw` is its
    text where the file has one."""

    number: int
    fields: Mapping[str, Any]
    raw: bytes | str | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, and why.

    In `raw` a byte that is not UTF-8 is a lone surrogate (PEP 383), so that nothing is lost.
    """

    number: int
    reason: Reason
    detail: str
    raw: str


@dataclass(frozen=True, slots=True)
class ImportedInstance:
    """One (input, output) pair; `further_turns` are [user, assistant] after the first answer."""

    input: str
    output: str
    system: str | None = None
    further_turns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ImportedTask:
    """A row as it is understood: an instruction with its instances, mostly one."""

    instruction: str
    instances: tuple[ImportedInstance, ...]
    is_classification: bool | None = None
    difficulty: int | None = None
