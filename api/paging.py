"""Cursors: where a page ended, as a text that means nothing to clients."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query

from api.problems import Problem, ProblemField

Limit = Annotated[int, Query(ge=1, le=200, description="Most items of the page.")]
CursorText = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=1000,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="`next_cursor` of the page before.",
    ),
]


def encode_cursor(place: Sequence[Any]) -> str:
    """The cursor of a place."""
    return base64.urlsafe_b64encode(json.dumps(list(place)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, kinds: Sequence[type]) -> list[Any] | None:
    """The place of a cursor.

    Raises:
        Problem: it is none that this route gave.
    """
    if cursor is None:
        return None
    place: Any = None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        place = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
        fits = isinstance(place, list) and [type(value) for value in place] == list(kinds)
        fits = fits and all(-(2**31) <= v < 2**63 for v in place if isinstance(v, int))
    except (ValueError, RecursionError):
        fits = False
    if not fits:
        message = "is none that this route gave; leave it out for the first page"
        raise Problem(
            404, "page_not_found", f"cursor: {message}",
            errors=[ProblemField(field="cursor", message=message)],
        )  # fmt: skip
    return list(place)
