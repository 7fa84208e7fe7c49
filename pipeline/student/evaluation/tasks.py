"""Evaluation files: read, checked, and drawn from.

Two kinds, both JSON Lines (also gzipped). Tasks in the style of Super-NaturalInstructions have
`definition`, `input` and `output` (a text or a list of references), and may have `task`, `category`
and `id`. User-oriented tasks have `instruction`, `input`, `output`, and may have `domain` and `id`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.student.evaluation.records import EvaluationFile, EvaluationItem, Part
from pipeline.student.records import Example

BUNDLED_USER_ORIENTED = "evaluation/user_oriented.jsonl"


def read_tasks(path: Path, number: int) -> tuple[EvaluationFile, list[EvaluationItem]]:
    """Tasks in the style of Super-NaturalInstructions.

    Args:
        number: the file's number in the evaluation.

    Raises:
        UsageError: the file cannot be read, is empty, or a line of it is no task; the message names
            the line and the field.
    """
    data = _read(path)
    items = _items(path, number, data, "tasks", "definition", "category")
    return _file(path, number, "tasks", data, items), items


def read_user_oriented(
    path: Path | None, number: int
) -> tuple[EvaluationFile, list[EvaluationItem]]:
    """User-oriented tasks; None: the bundled ones.

    Raises:
        UsageError: as `read_tasks`.
    """
    shown = Path(BUNDLED_USER_ORIENTED) if path is None else path
    if path is None:
        data = resources.files("seeds").joinpath(BUNDLED_USER_ORIENTED).read_bytes()
    else:
        data = _read(path)
    items = _items(shown, number, data, "user_oriented", "instruction", "domain")
    return _file(shown, number, "user_oriented", data, items), items


def _items(
    path: Path,
    number: int,
    data: bytes,
    part: Part,
    instruction: str,
    category: str,
) -> list[EvaluationItem]:
    """The tasks of a file, whose fields for the instruction and the category are named so."""
    items: list[EvaluationItem] = []
    for line, row in _rows(path, data):
        name = _text(path, line, row, "id", default=f"line {line}")
        task = _text(path, line, row, "task", default="") or path.name
        items.append(
            EvaluationItem(
                file=number, number=len(items), part=part, name=name,
                task=task if part == "tasks" else name,  # a user-oriented item is a task of its own
                instruction=_text(path, line, row, instruction, is_needed=True),
                input=_text(path, line, row, "input", default=""),
                references=_references(path, line, row),
                category=_text(path, line, row, category, default="") or None,
            )
        )  # fmt: skip
    return items


def held_out_items(
    examples: Sequence[Example], name: str, number: int
) -> tuple[EvaluationFile, list[EvaluationItem]]:
    """The held-out instances of a training run; one lineage root is one task."""
    rows = [json.dumps(asdict(example), sort_keys=True).encode() for example in examples]
    digest = hashlib.sha256(b"\n".join(rows)).hexdigest()
    items = [
        EvaluationItem(
            file=number, number=place, part="held_out", name=example.instance_id,
            task=example.root, instruction=example.instruction, input=example.input,
            references=(example.output,),
            category="classification" if example.is_classification else None,
            is_classification=bool(example.is_classification), system=example.system,
        )
        for place, example in enumerate(examples)
    ]  # fmt: skip
    return EvaluationFile(number, "held_out", name, digest, len(items)), items


def draw(
    items: Sequence[EvaluationItem], limit: int | None, seed: int, file: EvaluationFile
) -> list[EvaluationItem]:
    """`limit` of the items, in their order, the same ones for the same seed and file."""
    if limit is None or limit >= len(items):
        return list(items)
    chosen = random.Random(f"{seed}/{file.sha256}").sample(range(len(items)), limit)  # noqa: S311
    return [items[place] for place in sorted(chosen)]


def _file(
    path: Path, number: int, part: Part, data: bytes, items: Sequence[EvaluationItem]
) -> EvaluationFile:
    if not items:
        raise UsageError(f"{path}: holds no task")
    return EvaluationFile(number, part, path.name, hashlib.sha256(data).hexdigest(), len(items))


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as exc:
        raise UsageError(f"{path}: is a damaged gzip file: {exc}") from exc


def _rows(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as exc:
            raise UsageError(
                f"{path} line {number}: is no JSON object ({exc}); an evaluation file has one a line"
            ) from exc
        if not isinstance(row, dict):
            raise UsageError(f"{path} line {number}: a JSON object is expected")
        yield number, row


def _text(
    path: Path, line: int, row: dict[str, Any], name: str, *, default: str | None = None,
    is_needed: bool = False,
) -> str:  # fmt: skip
    value = row.get(name, default)
    if value is None:
        value = default
    if isinstance(value, int) and name == "id":
        value = str(value)
    if not isinstance(value, str) or (is_needed and not value.strip()):
        problem = "is missing or empty" if value in (None, "") else "is no text"
        raise UsageError(
            f"{path} line {line}: '{name}' {problem}; a task has definition, input and output, a "
            "user-oriented task instruction, input and output"
        )
    return value


def _references(path: Path, line: int, row: dict[str, Any]) -> tuple[str, ...]:
    value = row.get("output")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{path} line {line}: 'output' is a text or a list of texts")
    found = tuple(text for text in texts if text.strip())
    if not found:
        raise UsageError(f"{path} line {line}: 'output' holds no reference answer")
    return found
