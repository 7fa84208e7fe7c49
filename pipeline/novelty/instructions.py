"""Reading a file of instructions, whatever its form."""

import gzip
import json
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError


def read_instructions(path: Path) -> list[str]:
    """Return the instructions of a file in order.

    Plain text holds one a line (empty lines are passed over); JSON Lines and a JSON array hold
    objects with the field `instruction`, a string. A file whose first character is `{` is taken as
    JSON Lines, one that begins with `[` and an object or its end as a JSON array. The ending .gz
    means gzip. Raises UsageError with the file, the line and the field that is wrong.
    """
    text = _read(path)
    start = text.lstrip()
    if start.startswith("{"):
        return _json_lines(path, text)
    if start.startswith("[") and start[1:].lstrip()[:1] in ("{", "]"):
        return _json_array(path, text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UsageError(f"{path}: the file cannot be read: {reason}.") from exc
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {line}: not UTF-8; save the file as UTF-8.") from exc


def _json_lines(path: Path, text: str) -> list[str]:
    instructions = []
    # Only \n ends a line of JSON Lines; a string may hold the other line ends of Unicode.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as exc:
                raise UsageError(f"{where}: not valid JSON: {exc}.") from exc
            instructions.append(_instruction(row, where))
    return instructions


def _json_array(path: Path, text: str) -> list[str]:
    try:
        rows = json.loads(text)
    except ValueError as exc:
        raise UsageError(f"{path}: not valid JSON: {exc}.") from exc
    return [_instruction(row, f"{path}, item {i}") for i, row in enumerate(rows, start=1)]


def _instruction(row: Any, where: str) -> str:
    if not isinstance(row, dict):
        raise UsageError(f"{where}: expected an object with the field 'instruction'.")
    instruction = row.get("instruction")
    if not isinstance(instruction, str):
        said = "is missing" if "instruction" not in row else "is not a string"
        raise UsageError(f"{where}: the field 'instruction' {said}.")
    return instruction
