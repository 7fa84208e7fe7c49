"""The formats of instruction data: what their rows hold and how a row becomes a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.importing.containers import kind_of
from pipeline.importing.conversations import (
    kept_system,
    read_further_turns,
    read_messages,
    read_sharegpt,
)
from pipeline.importing.fields import Fields, check_text
from pipeline.importing.records import BadRowError, ImportedInstance, ImportedTask

ALIASES: dict[str, tuple[str, ...]] = {
    "instruction": ("instruction", "prompt", "question", "query"),
    "input": ("input", "context"),
    "output": ("output", "response", "answer", "completion"),
    "is_classification": ("is_classification",),
    "difficulty": ("difficulty",),
    "system": ("system", "system_prompt"),
    "further_turns": ("further_turns",),
    "history": ("history",),
}
"""Column names of CSV and Parquet files that are understood without a mapping; any case."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the fields it reads, what a row must hold (for messages), how a row is read."""

    name: str
    fields: tuple[str, ...]
    needs: str
    read: Callable[[Fields], ImportedTask]


def read_task(format: Format, row: Mapping[str, Any], columns: Mapping[str, str]) -> ImportedTask:
    """A row as a task.

    Args:
        columns: the file's column for each of our fields; fields that are not in it are named alike.

    Raises:
        BadRowError: the row is not of this format.
    """
    return format.read(Fields(row, columns))


def _read_flat(fields: Fields) -> ImportedTask:
    instruction = fields.text("instruction")
    output = fields.text("output")
    given = fields.optional_text("input") or ""
    further = read_further_turns(fields.value("further_turns"), "field 'further_turns'")
    # LLaMA-Factory's alpaca rows: what was said before the instruction.
    earlier = read_further_turns(fields.value("history"), "field 'history'")
    if earlier:
        last = (f"{instruction}\n{given}" if given else instruction, output)
        (instruction, output), *rest = (*earlier, last)
        given, further = "", (*rest, *further)
    system = kept_system(fields.optional_text("system"))
    instance = ImportedInstance(given, output, system, further)
    return ImportedTask(
        instruction, (instance,), fields.flag("is_classification"), fields.rating("difficulty")
    )


def _read_self_instruct(fields: Fields) -> ImportedTask:
    items = fields.value("instances")
    if items is None:
        return _read_flat(fields)
    if not isinstance(items, list):
        raise BadRowError("wrong_type", f"field 'instances': a list is expected, found "
                          f"{kind_of(items)}")  # fmt: skip
    instances = tuple(_nested(item, number) for number, item in enumerate(items, 1))
    return ImportedTask(fields.text("instruction"), instances, fields.flag("is_classification"))


def _nested(item: Any, number: int) -> ImportedInstance:
    place = f"instance {number}"
    if not isinstance(item, dict):
        raise BadRowError("wrong_type", f"{place}: an object is expected, found {kind_of(item)}")
    if item.get("output") is None:
        raise BadRowError("missing_field", f"{place}: field 'output' is missing")
    given = item.get("input")
    return ImportedInstance(
        "" if given is None else check_text(given, f"{place}: field 'input'"),
        check_text(item["output"], f"{place}: field 'output'"),
    )


def _read_evol_instruct(fields: Fields) -> ImportedTask:
    if fields.value("instruction") is None and fields.value("input") is not None:
        instance = ImportedInstance("", fields.text("output"))
        return ImportedTask(fields.text("input"), (instance,), None, fields.rating("difficulty"))
    return _read_flat(fields)


_FLAT = tuple(ALIASES)
FORMATS: dict[str, Format] = {
    kind.name: kind
    for kind in (
        Format(
            "self-instruct",
            (*_FLAT, "instances"),
            "instruction and instances (a list of input and output), or instruction, input, output",
            _read_self_instruct,
        ),
        Format("alpaca", _FLAT, "instruction, input and output", _read_flat),
        Format(
            "sharegpt",
            ("conversations", "system", "is_classification"),
            "conversations (a list of from and value)",
            read_sharegpt,
        ),
        Format(
            "messages",
            ("messages", "system", "is_classification"),
            "messages (a list of role and content)",
            read_messages,
        ),
        Format(
            "evol-instruct",
            _FLAT,
            "instruction and output, or input and output",
            _read_evol_instruct,
        ),
        Format("csv", _FLAT, "a header with columns for instruction and output", _read_flat),
        Format("parquet", _FLAT, "columns for instruction and output", _read_flat),
    )
}
