"""Errors as RFC 9457 problem details: stable codes, and the field that is wrong."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipeline.errors import EvoloomError, UsageError
from store.service.database import ServiceDatabaseError

MEDIA_TYPE = "application/problem+json"
_TITLES = {
    400: "The request cannot be read",
    401: "A valid key is needed",
    403: "The key does not allow this",
    404: "There is no such thing",
    405: "The method is not allowed here",
    409: "The request conflicts with what there is",
    413: "The request is too large",
    415: "The content type is not accepted",
    421: "The request is for another host",
    422: "The request is not valid",
    429: "Too many requests",
    431: "The request's head is too large",
    500: "The service failed",
    503: "The service cannot do this now",
}
_CODES = {404: "not_found", 405: "method_not_allowed"}
_log = logging.getLogger("evoloom.service")


class ProblemField(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(extra="forbid")

    field: str
    """The field, parameter or header, such as `tasks[3].instruction`."""
    message: str
    """What is wrong, and what would be right."""
    line: int | None = None
    """The line of a JSON Lines upload."""
    code: str | None = None
    """A stable code, where there is one of its own."""
    nearest: dict[str, Any] | None = None
    """Of a duplicate: the nearest seed task (`id`, `instruction`) and its `score`."""


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str
    """`urn:evoloom:problem:CODE`."""
    title: str
    status: int = Field(ge=400, le=599)
    code: str
    """Stable, for programs."""
    detail: str
    """For people."""
    instance: str
    """The path that was asked for."""
    request_id: str
    errors: list[ProblemField] = Field(default_factory=list)


class Problem(HTTPException):
    """Raised to answer with a problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[ProblemField] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers=dict(headers or {}))
        self.code = code
        self.errors = list(errors)


def field_problem(field: str, message: str, code: str = "invalid_field") -> Problem:
    """A 422 about one field."""
    return Problem(
        422, code, f"{field}: {message}", errors=[ProblemField(field=field, message=message)]
    )


def problem_body(problem: Problem, path: str, request_id: str) -> bytes:
    """The problem as it is sent."""
    details = ProblemDetails(
        type=f"urn:evoloom:problem:{problem.code}",
        title=_TITLES.get(problem.status_code, "The request failed"),
        status=problem.status_code,
        code=problem.code,
        detail=problem.detail,
        instance=path,
        request_id=request_id,
        errors=problem.errors,
    )
    value = details.model_dump(mode="json", exclude_none=True)
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def problem_response(problem: Problem, path: str, request_id: str) -> Response:
    """The problem as a response."""
    return Response(
        problem_body(problem, path, request_id), problem.status_code, problem.headers,
        media_type=MEDIA_TYPE,
    )  # fmt: skip


def problem_of(exc: Exception) -> Problem:
    """Any exception as a problem; what nobody foresaw is logged, not shown."""
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, RequestValidationError):
        return _validation_problem(exc)
    if isinstance(exc, HTTPException):
        code = _CODES.get(exc.status_code, "bad_request")
        return Problem(exc.status_code, code, str(exc.detail), headers=exc.headers)
    if isinstance(exc, ServiceDatabaseError):
        _log.error("%s", exc)
        return Problem(503, "service_database", "the service's database cannot be used now",
                       headers={"Retry-After": "5"})  # fmt: skip
    if isinstance(exc, UsageError):
        if "no snapshot has been published yet" in str(exc):
            return Problem(503, "no_snapshot", "no snapshot has been published yet",
                           headers={"Retry-After": "5"})  # fmt: skip
        return Problem(422, "not_usable", str(exc))
    if isinstance(exc, EvoloomError):
        return Problem(409, "not_possible", str(exc))
    _log.error("unforeseen", exc_info=exc)
    return Problem(
        500, "internal_error", "the service failed; its log says more under this request id"
    )


def install(app: FastAPI) -> None:
    """Have every error of an application answered as a problem."""

    def answer(request: Request, exc: Exception) -> Response:
        state = request.scope.get("state", {})
        return problem_response(
            problem_of(exc), request.scope["path"], str(state.get("request_id", "-"))
        )

    for kind in (RequestValidationError, HTTPException, EvoloomError):
        app.add_exception_handler(kind, answer)


def _validation_problem(exc: RequestValidationError) -> Problem:
    errors = [
        ProblemField(field=field_name(error["loc"]), message=_message(error))
        for error in exc.errors()
    ]
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(
        422, "invalid_field", f"{first.field}: {first.message}{more}", errors=errors[:100]
    )


def field_name(location: Sequence[Any]) -> str:
    """`tasks[3].instruction` of ("body", "tasks", 3, "instruction")."""
    parts = list(location)
    if parts and parts[0] in ("body", "query", "path", "header", "cookie") and len(parts) > 1:
        parts = parts[1:]
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _message(error: Mapping[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
