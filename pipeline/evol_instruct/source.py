"""Source instructions: read from a file in Alpaca's format, kept in the run directory.

Rows with the same instruction are one source instruction with several instances, so that a run and
its export are the same source.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.evol_instruct.plan import SourceInstance, SourceInstruction

_SHOWN_PROBLEMS = 5
_GZIP = b"\x1f\x8b"


def read_alpaca(path: Path) -> list[SourceInstruction]:
    """Read a file of objects with `instruction` and, if there are any, `input` and `output`.

    Args:
        path: one JSON array, or JSON Lines; gzipped or not.

    Raises:
        UsageError: it cannot be read, or a row is wrong; the message names row and field.
    """
    problems: list[str] = []
    rows: list[tuple[str, SourceInstance]] = []
    for place, row in _rows(path):
        found = _problem(row)
        if found is None:
            instance = SourceInstance(row.get("input") or "", row.get("output") or "")
            rows.append((row["instruction"].strip(), instance))
        else:
            problems.append(f"  {place}: {found}")
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        shown = "\n".join(problems[:_SHOWN_PROBLEMS]) + (f"\n  and {more} more" if more > 0 else "")
        raise UsageError(f"source file {path}: {len(problems)} problem(s)\n{shown}")
    if not rows:
        raise UsageError(f"source file {path} holds no instruction")
    return group(rows)


def group(rows: Iterable[tuple[str, SourceInstance]]) -> list[SourceInstruction]:
    """One source instruction for each distinct text, in the order of their first rows."""
    instances: dict[str, list[SourceInstance]] = {}
    for instruction, instance in rows:
        instances.setdefault(instruction, []).append(instance)
    return [SourceInstruction(text, tuple(items)) for text, items in instances.items()]


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    text = _text(path)
    if text.lstrip()[:1] == "[":
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise UsageError(f"source file {path} is not valid JSON: {exc}") from exc
        yield from ((f"row {number}", value) for number, value in enumerate(values, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise UsageError(
                f"source file {path}, line {number}: not valid JSON ({exc}); Alpaca's format is one "
                "JSON array, or JSON Lines, of objects with instruction, input and output"
            ) from exc


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"source file {path} is not UTF-8 text (byte {exc.start})") from exc
    except (OSError, EOFError, zlib.error) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UsageError(f"source file {path}: {reason}") from exc


def _problem(row: Any) -> str | None:
    if not isinstance(row, dict):
        return "an object with instruction, input and output is expected"
    instruction = row.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        return "field 'instruction': a text that is not empty is expected"
    for name in ("input", "output"):
        if not isinstance(row.get(name, ""), str | None):
            return f"field '{name}': a text is expected, or none at all"
    return None


def encode_source(source: Iterable[SourceInstruction]) -> bytes:
    """The file that a run directory keeps of its source: one JSON line for each instruction."""
    lines = []
    for item in source:
        row = {
            "instruction": item.instruction,
            "instances": [astuple(instance) for instance in item.instances],
            "origin": item.origin,
            "is_classification": item.is_classification,
        }
        lines.append(json.dumps(row, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def decode_source(data: bytes) -> list[SourceInstruction]:
    """Read what `encode_source` wrote."""
    source = []
    for line in data.decode("utf-8", "surrogatepass").split("\n"):
        if line:
            row = json.loads(line)
            instances = tuple(SourceInstance(*values) for values in row["instances"])
            source.append(
                SourceInstruction(
                    row["instruction"], instances, row["origin"], row.get("is_classification")
                )
            )
    return source
