"""JSON as strictly as it can be read: what one reader takes for this and another for that is refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from api.problems import Problem

MOST_NESTED = 64
_ESCAPED = re.compile(rb"\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})")
_HALF = re.compile("[\ud800-\udfff]")


class StrictRoute(APIRoute):
    """A route that reads JSON bodies with `parse_json`."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            response: Response = await handle(_StrictRequest(request.scope, request.receive))
            return response

        return handle_strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        return parse_json(await self.body())


def parse_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        Problem: it is no UTF-8, no JSON, nested deeper than MOST_NESTED, or holds a name twice in an
            object, NaN or Infinity, a NUL, or half of a surrogate pair.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Problem(400, "not_utf8", f"the body is not UTF-8 (byte {exc.start})") from exc
    if "\0" in text:
        raise Problem(400, "nul", "the body holds a NUL character")
    if _depth(text) > MOST_NESTED:
        raise Problem(400, "json_too_deep", f"the JSON is nested deeper than {MOST_NESTED} levels")
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_unique, parse_int=_int
        )
    except json.JSONDecodeError as exc:
        raise Problem(
            400, "not_json", f"not valid JSON (line {exc.lineno}, column {exc.colno}): {exc.msg}"
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise Problem(400, "not_json", f"not valid JSON: {exc}") from exc
    if _ESCAPED.search(data):
        _check_texts(value)
    return value


def _depth(text: str) -> int:
    """How deep objects and lists are nested; brackets in strings do not count."""
    depth = deepest = 0
    in_string = False
    if text.count("[") + text.count("{") <= MOST_NESTED:
        return 0  # cannot be deeper
    for match in re.finditer(r'[\[\]{}"]|\\.', text, re.DOTALL):
        mark = match[0]
        if mark == '"':
            in_string = not in_string
        elif in_string or mark[0] == "\\":
            continue
        elif mark in "[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _int(text: str) -> int:
    if len(text) > 30:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice[:50]!r} stands twice in an object")
    return value


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise Problem(400, "nul", "the body holds a NUL character (\\u0000)")
        if _HALF.search(value):
            raise Problem(
                400, "half_surrogate",
                "a text holds half of a surrogate pair (such as \\ud83d alone), which is no character",
            )  # fmt: skip
    elif isinstance(value, dict):
        for name, item in value.items():
            _check_texts(name)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)
