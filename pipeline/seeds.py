"""Seed tasks and shots: reading and checking files of the field's schema.

The schema is that of the released Self-Instruct seeds: one JSON object a line with `id`, `name`,
`instruction`, `instances` (objects with `input` and `output`) and `is_classification`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.records import SeedTask

SEED_FILE = "seed_tasks.jsonl"
SHOT_FILES = ("shots_classification.jsonl", "shots_input_first.jsonl", "shots_output_first.jsonl")
_SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file: its line, the field (or None) and what would be right."""

    line: int
    field: str | None
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", field '{self.field}'" if self.field else "")
        return f"{where}: {self.message}"


def validate_seed_file(path: Path) -> tuple[list[SeedTask], list[Problem]]:
    """Read a seed file; returns the tasks that are sound and every problem there is.

    Raises:
        UsageError: the file cannot be read at all.
    """
    return _validate(_read_text(path, "seed file "))


def load_seeds(path: Path | None) -> list[SeedTask]:
    """Seed tasks of a file, or the bundled ones.

    Raises:
        UsageError: the file cannot be read, has a problem (line and field named) or no task.
    """
    text = _read_text(path, "seed file ") if path else _bundled(SEED_FILE).read_text("utf-8")
    tasks, problems = _validate(text)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN_PROBLEMS])
        more = len(problems) - _SHOWN_PROBLEMS
        rest = f"\n  and {more} more" if more > 0 else ""
        raise UsageError(
            f"seed file {path}: {len(problems)} problem(s); `evoloom seeds validate` lists all\n"
            f"{shown}{rest}"
        )
    if not tasks:
        raise UsageError(f"seed file {path} holds no task")
    return tasks


def load_shots(directory: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Shots of the fixed prompts by file name without ending, the user's before the bundled.

    Raises:
        UsageError: a file cannot be read or a row lacks a field (line named).
    """
    if directory is not None and not directory.is_dir():
        raise UsageError(f"seeds.shots_directory: {directory} is not a directory")
    shots = {}
    for file_name in SHOT_FILES:
        own = directory / file_name if directory else None
        path: Path | Traversable = own if own and own.exists() else _bundled(file_name)
        text = _read_text(path) if isinstance(path, Path) else path.read_text("utf-8")
        name = file_name.removesuffix(".jsonl")
        shots[name] = [_checked_shot(row, name, path, line) for line, row in _rows(text, path)]
    return shots


def _bundled(file_name: str) -> Traversable:
    return resources.files("seeds") / file_name


def _read_text(path: Path, what: str = "") -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as exc:
        raise UsageError(f"{what}{path}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{what}{path} is not UTF-8 text (byte {exc.start})") from exc


def _rows(text: str, path: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise UsageError(f"{path}, line {number}: not valid JSON ({exc})") from exc
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: a JSON object is expected")
        yield number, row


_SHOT_FIELDS = {
    "shots_classification": None,
    "shots_input_first": ("input", "output"),
    "shots_output_first": ("label", "input"),
}


def _checked_shot(row: dict[str, Any], name: str, path: Any, line: int) -> dict[str, Any]:
    fields = _SHOT_FIELDS[name]
    examples = row.get("examples")
    if not isinstance(row.get("instruction"), str):
        raise UsageError(f"{path}, line {line}, field 'instruction': a text is expected")
    if fields is None:
        if not isinstance(row.get("is_classification"), bool):
            raise UsageError(f"{path}, line {line}, field 'is_classification': true or false")
    elif not isinstance(examples, list) or not examples or not all(
        isinstance(item, dict) and all(isinstance(item.get(field), str) for field in fields)
        for item in examples
    ):  # fmt: skip
        raise UsageError(
            f"{path}, line {line}, field 'examples': a list of objects with the texts "
            f"{' and '.join(fields)} is expected"
        )
    return row


def _validate(text: str) -> tuple[list[SeedTask], list[Problem]]:
    tasks: list[SeedTask] = []
    problems: list[Problem] = []
    first_line: dict[tuple[str, str], int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:
            problems.append(Problem(number, None, f"not valid JSON ({exc})"))
            continue
        found = list(_problems(row, number))
        if isinstance(row, dict):
            for field in ("id", "instruction"):
                value = row.get(field)
                if isinstance(value, str) and value:
                    earlier = first_line.setdefault((field, value), number)
                    if earlier != number:
                        message = f"the same {field} stands on line {earlier}; it must be unique"
                        found.append(Problem(number, field, message))
        problems += found
        if not found:
            tasks.append(SeedTask.from_json(row))
    return tasks, problems


_TEXT_FIELDS = ("id", "name", "instruction")
_KNOWN = (*_TEXT_FIELDS, "instances", "is_classification")


def _problems(row: Any, line: int) -> Iterator[Problem]:
    if not isinstance(row, dict):
        yield Problem(line, None, f"a JSON object is expected, not {type(row).__name__}")
        return
    for field in _TEXT_FIELDS:
        if field not in row:
            yield Problem(line, field, "missing")
        elif not isinstance(row[field], str):
            yield Problem(line, field, f"a text is expected, not {_json_type(row[field])}")
        elif not row[field].strip():
            yield Problem(line, field, "must not be empty")
        elif not _is_sound(row[field]):
            yield Problem(line, field, _HALF)
    if "is_classification" not in row:
        yield Problem(line, "is_classification", "missing")
    elif not isinstance(row["is_classification"], bool):
        yield Problem(
            line, "is_classification",
            f"true or false is expected, not {_json_type(row['is_classification'])}",
        )  # fmt: skip
    yield from _instance_problems(row, line)
    for field in row:
        if field not in _KNOWN:
            yield Problem(line, field, f"unknown field; the fields are {', '.join(_KNOWN)}")


def _instance_problems(row: dict[str, Any], line: int) -> Iterator[Problem]:
    if "instances" not in row:
        yield Problem(line, "instances", "missing")
        return
    instances = row["instances"]
    if not isinstance(instances, list) or not instances:
        yield Problem(line, "instances", "a list of at least one instance is expected")
        return
    for index, item in enumerate(instances):
        place = f"instances[{index}]"
        if not isinstance(item, dict):
            yield Problem(line, place, "an object with input and output is expected")
            continue
        for field in ("input", "output"):
            if not isinstance(item.get(field), str):
                yield Problem(line, f"{place}.{field}", 'a text is expected (empty input is "")')
            elif not _is_sound(item[field]):
                yield Problem(line, f"{place}.{field}", _HALF)
        if isinstance(item.get("output"), str) and not item["output"].strip():
            yield Problem(line, f"{place}.output", "must not be empty")
        for field in item:
            if field not in ("input", "output"):
                yield Problem(line, f"{place}.{field}", "unknown field")


_HALF = "holds half of a surrogate pair (such as \\ud83d alone), which is no character"


def _is_sound(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false",
             int: "a number", float: "a number", type(None): "null"}  # fmt: skip
    return names[type(value)]
