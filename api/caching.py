"""Conditional answers: what is read from a version of the data is made once for that version."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

_MOST_BYTES = 64 * 2**20
_HEADERS = {"Cache-Control": "private, no-cache", "Vary": "Authorization, Accept-Encoding"}


class Cache:
    """Bodies of answers by the version and the address that they are for; the least used go first."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._making: dict[str, threading.Lock] = {}

    def get(self, key: str, make: Callable[[], bytes]) -> bytes:
        """The body under a key; made by one caller while others who want it wait."""
        with self._lock:
            if (body := self._bodies.get(key)) is not None:
                self._bodies.move_to_end(key)
                return body
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if (body := self._bodies.get(key)) is not None:
                    return body
            try:
                body = make()
                self._keep(key, body)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return body

    def _keep(self, key: str, body: bytes) -> None:
        with self._lock:
            self._bodies[key] = body
            self._bytes += len(body)
            while self._bytes > self._most_bytes:
                _, old = self._bodies.popitem(last=False)
                self._bytes -= len(old)


def answer(request: Request, cache: Cache, version: str, make: Callable[[], BaseModel]) -> Response:
    """The answer to a GET whose content depends on its address and a version of the data alone.

    304 where the client has it already; then nothing is read.
    """
    scope = request.scope
    text = f"{version}/{scope['path']}?{scope['query_string'].decode('latin-1')}"
    key = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    etag = f'W/"{key}"'
    headers = {"ETag": etag, **_HEADERS}
    if is_known(request, etag):
        return Response(status_code=304, headers=headers)
    body = cache.get(key, lambda: make().model_dump_json().encode())
    return Response(body, headers=headers, media_type="application/json")


def is_known(request: Request, etag: str) -> bool:
    """Whether the client says that it has this content (RFC 9110, section 13.1.2)."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    known = {part.strip().removeprefix("W/") for part in given.split(",")}
    return "*" in known or etag.removeprefix("W/") in known
