"""Evaluation files as decontamination reads them: whatever they hold, as texts to look for."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

# The fields of a prompt, in the order in which they are shown; the first set of which an item has
# one. What else it holds are references and the like.
_PROMPTS = (("instruction", "input"), ("definition", "input"), ("prompt",), ("question", "choices"),
            ("query",), ("problem",))  # fmt: skip
# Fields that say what an item is, not what it asks.
_LABELS = frozenset({
    "id", "name", "key", "domain", "category", "task", "source", "url", "license", "licence", "track",
    "motivation_app", "difficulty", "skill", "idx", "gpt3_answer", "instruction_id_list",
    "instance_license",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """One item. `number` is its line or place, from 1; `name` its id where it has one."""

    number: int
    name: str
    prompt: str
    others: tuple[str, ...]
    """Further texts, such as references."""


@dataclass(frozen=True, slots=True)
class EvaluationFile:
    """A file of items; `is_bundled` where it comes with evoloom."""

    name: str
    sha256: str
    items: tuple[EvaluationItem, ...]
    is_bundled: bool = False


def bundled_files() -> tuple[EvaluationFile, ...]:
    """The evaluation tasks that come with evoloom."""
    folder = resources.files("seeds") / "evaluation"
    if not folder.is_dir():
        return ()
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return tuple(
        _read(f"bundled {entry.name}", entry.read_bytes(), is_bundled=True)
        for entry in entries
        if entry.name.endswith((".jsonl", ".json", ".txt"))
    )


def read_file(path: Path) -> EvaluationFile:
    """Read an evaluation file: JSON Lines or a JSON array, of objects or texts; else plain text, an
    item a line. The ending .gz means gzip.

    Raises:
        UsageError: it cannot be read, or holds no item.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UsageError(f"evaluation file {path}: cannot be read: {reason}") from exc
    try:
        file = _read(path.name, data, is_bundled=False)
    except _BadItemError as exc:
        raise UsageError(f"evaluation file {path}: {exc}") from exc
    if not file.items:
        raise UsageError(f"evaluation file {path}: holds no item")
    return file


class _BadItemError(ValueError):
    """Raised when a line is not what the file's others are."""


def _read(name: str, data: bytes, *, is_bundled: bool) -> EvaluationFile:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise _BadItemError(f"line {line}: not UTF-8; save the file as UTF-8") from exc
    items = tuple(
        item for number, value in _values(text) if (item := _item(number, value)) is not None
    )
    return EvaluationFile(name, hashlib.sha256(data).hexdigest(), items, is_bundled)


def _values(text: str) -> Iterator[tuple[int, Any]]:
    start = text.lstrip()[:1]
    if start == "[":
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise _BadItemError(f"not valid JSON: {exc}") from exc
        yield from enumerate(values, 1)
        return
    # Only \n ends a line of JSON Lines; a string may hold the other line ends of Unicode.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if start not in ("{", '"'):
            yield number, line
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise _BadItemError(f"line {number}: not valid JSON: {exc}") from exc
        yield number, value


def _item(number: int, value: Any) -> EvaluationItem | None:
    if isinstance(value, str):
        return EvaluationItem(number, str(number), value, ()) if value.strip() else None
    if not isinstance(value, dict):
        return None
    value = _flat({str(key).lower(): field for key, field in value.items()})
    shown = next((keys for keys in _PROMPTS if isinstance(value.get(keys[0]), str)), ())
    prompt = "\n".join(text for key in shown for text in _texts(value.get(key)) if text)
    others = tuple(
        text for key, field in value.items() if key not in shown and key not in _LABELS
        for text in _texts(field)
    )  # fmt: skip
    name = next((str(value[key]) for key in ("id", "key") if key in value), str(number))
    return EvaluationItem(number, name, prompt, others) if prompt or others else None


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """A task in the field's schema (`instances`, each with input and output) with its first input as
    its own."""
    instances = value.get("instances")
    if "input" in value or not isinstance(instances, list) or not instances:
        return value
    first = instances[0] if isinstance(instances[0], dict) else {}
    return {**value, "input": first.get("input")}


def _texts(value: Any) -> Iterator[str]:
    """Every text inside a value, in order."""
    if isinstance(value, str):
        if value.strip():
            yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if str(key).lower() not in _LABELS:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
