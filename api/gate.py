"""What every request passes before it is read: size of its head, key, rate, size of its body.

And what every answer gets on its way out: a request id, a line in the log, its place in the metrics.
Plain ASGI, so that streams are not held up.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from api.metrics import Metrics
from api.problems import Problem, ProblemField, problem_body, problem_of
from api.rate import Rate
from api.service import LOCAL, Service
from flows.logs import FIELDS
from store.service.keys import SCOPES, SECRETS, Key, find_key

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OPEN_PATHS = frozenset({"/v1/health", "/health"})
_NEEDS_KEY = ("/v1/", "/ready", "/metrics")
_JSON_TYPES = frozenset(
    {"application/json", "application/x-ndjson", "application/jsonl", "application/jsonlines"}
)
# An upload that is refused is read to here, so that who sends it gets to read why.
_MOST_DISCARDED = 512 * 2**20
_DISCARD_S = 30.0
_READING = ("GET", "HEAD", "OPTIONS")
_EVERYBODY = Key(LOCAL, LOCAL, SCOPES, "", None)
_access = logging.getLogger("evoloom.access")


@dataclass(slots=True)
class _Exchange:
    """One request and what came of it."""

    request_id: str
    key: Key | None = None
    status: int = 0
    refused: str | None = None


class Gate:
    """The ASGI application around the application."""

    def __init__(self, app: App, service: Service, metrics: Metrics) -> None:
        self._app = app
        self._service = service
        self._limits = service.settings.api
        self._metrics = metrics
        self._rate = Rate(self._limits.rate_per_s, self._limits.rate_burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = {name.lower(): value for name, value in scope["headers"]}
        given_id = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given_id if _REQUEST_ID.fullmatch(given_id) else token_hex(8)
        exchange = _Exchange(request_id)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id

        async def send_marked(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                ]
            await send(message)

        try:
            self._check_head(scope, headers)
            exchange.key = state["key"] = self._identify(scope, headers)
            self._check_rate(scope, exchange.key)
            self._check_type(scope, headers)
            limited = await self._limited(receive, headers)
            await self._app(scope, limited, send_marked)
        except Exception as exc:  # noqa: BLE001  whatever it is, it is answered and logged
            problem = problem_of(exc)
            exchange.refused = problem.code
            if exchange.status == 0:
                await _send_problem(problem, scope["path"], request_id, send_marked)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.observe(scope, exchange.status, seconds)
            _log(scope, exchange, seconds)

    def _check_head(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > self._limits.max_header_bytes:
            raise Problem(
                431, "head_too_large",
                f"address and headers have {size} bytes; {self._limits.max_header_bytes} are allowed",
            )  # fmt: skip
        if self._limits.auth == "off" and not _is_loopback_host(headers.get(b"host", b"")):
            # A page of another site, whose name is made to point here, must not be let in.
            raise Problem(
                421, "not_this_host", "without keys the service answers to loopback names only"
            )
        if self._limits.auth == "off" and scope["method"] not in _READING:
            self._check_origin(headers)

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        """A page of another site can have a browser send a POST here, if not read the answer."""
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not origin or origin in (f"http://{host}", f"https://{host}"):
            return
        if origin not in [known.lower() for known in self._limits.cors_origins]:
            raise Problem(
                403, "foreign_origin",
                f"Origin: {origin!r} is another site's; without keys pages of this service may send "
                "this, and those of api.cors_origins",
            )  # fmt: skip

    def _identify(self, scope: Scope, headers: dict[bytes, bytes]) -> Key | None:
        if self._limits.auth == "off":
            return _EVERYBODY
        path = scope["path"]
        if path in _OPEN_PATHS or not path.startswith(_NEEDS_KEY):
            return None
        given = headers.get(b"authorization", b"").decode("latin-1")
        kind, _, text = given.partition(" ")
        if kind.lower() != "bearer" or not text.strip():
            raise _unauthorised("key_missing", "send a key: Authorization: Bearer evk_...")
        key = find_key(self._service.database, text.strip())
        if key is None:
            raise _unauthorised("key_unknown", "the key is not known here")
        if key.revoked_at is not None:
            raise _unauthorised("key_revoked", f"key {key.key_id} was revoked at {key.revoked_at}")
        return key

    def _check_rate(self, scope: Scope, key: Key | None) -> None:
        who = key.key_id if key and key is not _EVERYBODY else str((scope.get("client") or [""])[0])
        wait_s = self._rate.take(who)
        if wait_s > 0:
            raise Problem(
                429, "rate_exceeded",
                f"more than {self._limits.rate_per_s:g} requests a second; wait {wait_s:.2f} s",
                headers={"Retry-After": str(max(1, round(wait_s + 0.5)))},
            )  # fmt: skip

    def _check_type(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        if scope["method"] not in ("POST", "PUT", "PATCH") or not has_body:
            return
        media_type = (
            headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip().lower()
        )
        if media_type not in _JSON_TYPES:
            message = f"{media_type or 'nothing'!r} is not read here; send application/json"
            raise Problem(
                415, "content_type", message,
                errors=[ProblemField(field="Content-Type", message=message)],
            )  # fmt: skip
        if b"content-encoding" in headers:
            raise Problem(415, "content_encoding", "compressed bodies are not read here")

    async def _limited(self, receive: Receive, headers: dict[bytes, bytes]) -> Receive:
        most = self._limits.max_body_bytes
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and int(said) > most:
            await _discard(receive)
            raise _too_large(most)
        received = 0

        async def receive_limited() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > most:
                    await _discard(receive)
                    raise _too_large(most)
            return message

        return receive_limited


async def _discard(receive: Receive) -> None:
    deadline = time.monotonic() + _DISCARD_S
    read = 0
    while read < _MOST_DISCARDED and time.monotonic() < deadline:
        message = await receive()
        read += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _too_large(most: int) -> Problem:
    return Problem(
        413, "body_too_large", f"the body has more than {most} bytes; send less at once",
        headers={"Connection": "close"},
    )  # fmt: skip


def _unauthorised(code: str, detail: str) -> Problem:
    return Problem(401, code, detail, headers={"WWW-Authenticate": 'Bearer realm="evoloom"'})


def _is_loopback_host(host: bytes) -> bool:
    name = host.decode("latin-1")
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _send_problem(problem: Problem, path: str, request_id: str, send: Send) -> None:
    body = problem_body(problem, path, request_id)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        *(
            (name.lower().encode(), value.encode())
            for name, value in (problem.headers or {}).items()
        ),
    ]
    start = {"type": "http.response.start", "status": problem.status_code, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _log(scope: Scope, exchange: _Exchange, seconds: float) -> None:
    """One line of JSON. No header, no query and no body is in it, and whatever looks like a key is
    left out of the path."""
    client = scope.get("client") or ["", 0]
    line = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": exchange.request_id,
        "client": client[0],
        "key": exchange.key.key_id if exchange.key else None,
        "method": scope["method"],
        "path": SECRETS.sub("evk_...", scope["path"])[:500],
        "status": exchange.status,
        "ms": round(seconds * 1000, 1),
    }
    if exchange.refused:
        line["refused"] = exchange.refused
    said = f"{line['method']} {line['path']} {line['status']}"
    fields = {key: value for key, value in line.items() if key != "at"}
    _access.info(
        json.dumps(line, ensure_ascii=True),
        extra={FIELDS: {"event": "request", "message": said, **fields}},
    )
