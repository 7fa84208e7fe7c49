"""What OpenAPI says of answers that are no model of FastAPI's."""

from __future__ import annotations

from typing import Any

from api.problems import MEDIA_TYPE

_PROBLEM: dict[str, Any] = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
_ALWAYS = (400, 401, 403, 422, 429, 431, 503)
_MEANINGS = {
    400: "The request cannot be read.",
    401: "No valid key.",
    403: "The key does not allow it.",
    404: "Not there.",
    409: "It conflicts with what there is.",
    413: "The body is too large.",
    415: "The content type is not accepted.",
    422: "A field is wrong.",
    429: "Too many requests; `Retry-After` says how long to wait.",
    431: "Address and headers are too large.",
    503: "Not now; `Retry-After` says how long to wait.",
}


def problems(*further: int, **more: Any) -> dict[int | str, dict[str, Any]]:
    """The problems that an operation may answer with: those that all may, and further ones."""
    return {
        status: {"description": _MEANINGS[status], "content": {MEDIA_TYPE: _PROBLEM}}
        for status in sorted({*_ALWAYS, *further})
    }


NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "As you have it already."}}
"""Of a GET with `If-None-Match`."""
