"""One POST to an endpoint: the path that each request of a run takes.

The OpenAI library on httpx2 spends 2.5 ms of CPU on a request, aiohttp 0.4 ms (benchmarks/README.md):
with 64 slots of 200 ms the difference between a full core and a fifth of one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx2

from pipeline.sections import TeacherSettings
from pipeline.teacher.failures import TransientTeacherError

# An answer may take minutes; that a machine is there, and not switched off, shows at once.
CONNECT_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status; `headers` are looked up in any case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Poster:
    """Connections to one endpoint, as many as there are requests at once. Open it before use."""

    def __init__(self, base_url: str, settings: TeacherSettings) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout_s = settings.timeout_s
        self._headers = {"Content-Type": "application/json", "User-Agent": "evoloom"}
        if settings.api_key is not None:
            self._headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        self._proxy = proxy_of(base_url)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make ready to post, in the running event loop."""
        is_encrypted = self._base_url.startswith("https:")
        # The certificates that the pre-flight's library trusts.
        trusted = httpx2.create_ssl_context() if is_encrypted else True
        connect_s = min(self._timeout_s, CONNECT_S)
        self._session = aiohttp.ClientSession(
            # How many are in flight at once is the run's own to limit.
            connector=aiohttp.TCPConnector(limit=0, ssl=trusted),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """Send one body once.

        Raises:
            TransientTeacherError: nothing came back, or not all of it, or not in time.
        """
        assert self._session is not None, "a poster is opened before it posts"
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        try:
            # Of the whole answer, not between two bytes: a slow drip must end as well.
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.post(
                    f"{self._base_url}{path}", data=data, proxy=self._proxy
                ) as response,
            ):
                return Answer(response.status, response.headers, await response.read())
        except aiohttp.ClientPayloadError as exc:
            raise TransientTeacherError("the connection was closed within the answer") from exc
        except aiohttp.ClientError as exc:
            overload = isinstance(exc, TimeoutError)
            raise TransientTeacherError(_cause(exc), overload=overload) from exc
        except TimeoutError as exc:
            raise TransientTeacherError(
                f"no answer within teacher.timeout_s = {self._timeout_s:g} s", overload=True
            ) from exc


def proxy_of(url: str) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY name for an address, unless NO_PROXY
    leaves it out."""
    parts = urlsplit(url)
    proxies = getproxies()
    if proxy_bypass(parts.netloc):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def _cause(exc: aiohttp.ClientError) -> str:
    name, text = type(exc).__name__, str(exc).strip()
    return f"{name}: {text}"[:300] if text else name
