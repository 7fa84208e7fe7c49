"""`Idempotency-Key`: a POST that is sent again is answered again, and done once."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from api.access import key_of
from api.problems import Problem, ProblemField
from store.service.database import ServiceDatabase
from store.service.idempotency import Answer, Identity, ReusedKeyError, read_answer

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="A text of your own, such as a UUID: the same request with the same text is "
        "done once and answered alike, also when several arrive together.",
    ),
]


def identity_of(request: Request, key: str | None, body: bytes) -> Identity | None:
    """What a request is known by; None without a key."""
    if key is None:
        return None
    scope = request.scope
    digest = hashlib.sha256()
    for part in (
        scope["method"].encode(), scope["path"].encode(), scope["query_string"],
        request.headers.get("content-type", "").split(";")[0].encode(), body,
    ):  # fmt: skip
        digest.update(len(part).to_bytes(8, "big") + part)
    return Identity(key_of(request).key_id, key, digest.hexdigest())


def created(value: BaseModel, status: int, location: str | None) -> Answer:
    """An answer to be remembered."""
    return Answer(status, location, value.model_dump_json().encode())


def earlier_answer(database: ServiceDatabase, identity: Identity | None) -> Answer | None:
    """What was answered to this request before, if anything. Asked before a request is checked: what
    it names may be gone since.

    Raises:
        Problem: its key stands for another request.
    """
    try:
        return read_answer(database, identity)
    except ReusedKeyError as exc:
        raise reused() from exc


def respond(answer: Answer, *, is_repeated: bool) -> Response:
    """The answer as a response."""
    headers = {} if answer.location is None else {"Location": answer.location}
    if is_repeated:
        headers["Idempotency-Replayed"] = "true"
    return Response(answer.body, answer.status, headers, media_type="application/json")


def reused() -> Problem:
    """The problem of a key that stands for another request."""
    message = "was sent with another request before; take a new one for each request"
    return Problem(
        422, "idempotency_key_reused", f"Idempotency-Key: {message}",
        errors=[ProblemField(field="Idempotency-Key", message=message)],
    )  # fmt: skip
