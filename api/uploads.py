"""Seed tasks of a request: JSON or JSON Lines to checked models, every mistake named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import Request
from pydantic import TypeAdapter, ValidationError

from api.models.seeds import SeedTaskBody
from api.problems import Problem, ProblemField, field_name
from api.strict_json import parse_json
from pipeline.api_settings import ApiSettings

_LINES = frozenset({"application/x-ndjson", "application/jsonl", "application/jsonlines"})
_TASKS = TypeAdapter(list[SeedTaskBody])
_SHOWN = 100


def read_tasks(
    request: Request, body: bytes, limits: ApiSettings
) -> tuple[list[SeedTaskBody], bool]:
    """The tasks of a request, and whether it is one that was sent alone.

    Raises:
        Problem: the body cannot be read, holds none or too many, or a field is wrong.
    """
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    lines: list[int] | None = None
    is_single = False
    if media_type in _LINES:
        numbered = list(_lines(body))
        rows, lines = [row for _, row in numbered], [number for number, _ in numbered]
    else:
        value = parse_json(body) if body else []
        is_single = isinstance(value, dict)
        rows = [value] if is_single else value if isinstance(value, list) else []
    if not rows:
        raise Problem(422, "no_seed_task", "a seed task is expected, a list of them, or JSON Lines")
    if len(rows) > limits.max_batch:
        raise Problem(
            413, "batch_too_large",
            f"{len(rows)} seed tasks; send {limits.max_batch} at once at most",
        )  # fmt: skip
    try:
        # JSON's numbers and texts are what they are: no `"true"` for true.
        tasks = _TASKS.validate_python(rows)
        errors = list(_too_long(tasks, limits.max_text_chars))
    except ValidationError as exc:
        errors = [(error["loc"], str(error["msg"])) for error in exc.errors(include_input=False)]
        tasks = []
    if errors:
        raise _problem(errors, lines, is_single=is_single)
    return tasks, is_single


def _lines(body: bytes) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            try:
                yield number, parse_json(line)
            except Problem as exc:
                exc.errors = [ProblemField(field="line", message=str(exc.detail), line=number)]
                exc.detail = f"line {number}: {exc.detail}"
                raise


def _too_long(tasks: Sequence[SeedTaskBody], most: int) -> Iterator[tuple[tuple[Any, ...], str]]:
    for index, task in enumerate(tasks):
        texts: list[tuple[tuple[Any, ...], str]] = [
            ((index, "name"), task.name), ((index, "instruction"), task.instruction)
        ]  # fmt: skip
        for number, item in enumerate(task.instances):
            texts.append(((index, "instances", number, "input"), item.input))
            texts.append(((index, "instances", number, "output"), item.output))
        for place, text in texts:
            if len(text) > most:
                yield place, f"has {len(text)} characters; {most} are allowed"


def _problem(
    errors: Sequence[tuple[tuple[Any, ...], str]], lines: list[int] | None, *, is_single: bool
) -> Problem:
    fields = []
    for location, message in errors[:_SHOWN]:
        index = location[0] if location and isinstance(location[0], int) else None
        inner = field_name(location[1:]) if index is not None else field_name(location)
        place = inner if is_single or index is None else f"tasks[{index}].{inner}".rstrip(".")
        line = lines[index] if lines is not None and index is not None else None
        fields.append(ProblemField(field=place or "body", message=message, line=line))
    first = fields[0]
    where = f"line {first.line}, " if first.line else ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(
        422, "invalid_field", f"{where}{first.field}: {first.message}{more}", errors=fields
    )
