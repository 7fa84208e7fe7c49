"""Telling what a file is from its name, its first bytes and its first rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pipeline.importing.formats import ALIASES, FORMATS
from pipeline.importing.records import Container

SAMPLE_ROWS = 50
"""Rows that a format is told by."""
PARQUET_MAGIC = b"PAR1"
_TABLES = {".csv": "csv", ".tsv": "csv"}


def detect_container(name: str, head: bytes) -> Container:
    """What holds the rows.

    Args:
        name: the file's name.
        head: its first bytes, decompressed.
    """
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    if any(suffix in _TABLES for suffix in suffixes[-2:]):
        return "csv"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"[":
        return "json_array"
    if start == b"{" or any(suffix.startswith((".json", ".ndjson")) for suffix in suffixes):
        return "json_lines"
    return "csv"


def detect_format(
    container: Container, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> str | None:
    """The name of the format of a file's first rows, or None where it cannot be told."""
    ours = {column: field for field, column in columns.items()}
    seen = {ours.get(name, name) for row in rows for name in row}
    if "conversations" in seen:
        return "sharegpt"
    if "messages" in seen:
        return "messages"
    if container in ("csv", "parquet"):
        found = table_columns(sorted(seen), columns)
        return container if {"instruction", "output"} <= found.keys() else None
    if "instances" in seen and "instruction" in seen:
        return "self-instruct"
    if "output" not in seen:
        return None
    if "instruction" in seen:
        if "input" not in seen and "history" not in seen:
            return "evol-instruct"
        return "self-instruct" if "is_classification" in seen else "alpaca"
    return "evol-instruct" if "input" in seen else None


def table_columns(names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The column of each field of a table: as mapped, else by its usual names.

    Args:
        names: the table's columns.
        columns: what the user mapped, by field.
    """
    lowered = {name.strip().lower(): name for name in names}
    found = dict(columns)
    for field, aliases in ALIASES.items():
        match = next((lowered[alias] for alias in aliases if alias in lowered), None)
        if field not in found and match is not None and match not in columns.values():
            found[field] = match
    return found


def suggest_mapping(names: Sequence[str]) -> str:
    """The `--map` flags that would read columns with usual names; empty where there are none."""
    found = table_columns(names, {})
    flags = [
        f"--map {field}={found[field]}"
        for field in ("instruction", "output")
        if field in found and found[field] != field
    ]
    return " ".join(flags) if {"instruction", "output"} <= found.keys() else ""


def known_formats() -> str:
    """The formats and what they need, a line each."""
    return "\n".join(f"  {kind.name}: {kind.needs}" for kind in FORMATS.values())
