"""The path of each request: proxies, connections that are kept, what a redirect is told."""

from __future__ import annotations

import asyncio
import os

import pytest

from pipeline.sections import TeacherSettings
from pipeline.teacher.failures import TeacherSetupError
from pipeline.teacher.places import find_models
from pipeline.teacher.posting import Poster, proxy_of

PROXY = "http://proxy.example:3128"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(autouse=True)
def no_proxies_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({}, "http://teacher:8000/v1", None),
        ({"HTTP_PROXY": PROXY}, "http://teacher:8000/v1", PROXY),
        ({"http_proxy": PROXY}, "http://teacher:8000/v1", PROXY),
        ({"HTTP_PROXY": PROXY}, "https://teacher/v1", None),
        ({"HTTPS_PROXY": PROXY}, "https://teacher/v1", PROXY),
        ({"ALL_PROXY": PROXY}, "https://teacher/v1", PROXY),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "teacher"}, "http://teacher:8000/v1", None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": ".example"}, "http://a.example/v1", None),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, "http://teacher:8000/v1", None),
    ],
)
def test_the_proxy_of_an_address(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, expected: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(url) == expected


async def serve(heads: list[str], connections: list[int]) -> asyncio.Server:
    """Answers everything, over connections that are kept."""

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(len(connections))
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                heads.append(head.decode())
                await reader.readexactly(2)
                await asyncio.sleep(0.01)
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(connection, "127.0.0.1", 0)


def test_a_request_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[str] = []

    async def scenario() -> None:
        server = await serve(heads, [])
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        poster = Poster("http://teacher.example/v1/", TeacherSettings(api_key="k"))
        await poster.open()
        assert (await poster.post("/completions", {})).status == 200
        await poster.close()
        server.close()

    asyncio.run(scenario())
    assert heads[0].startswith("POST http://teacher.example/v1/completions HTTP/1.1")
    assert "Authorization: Bearer k" in heads[0]


def test_as_many_connections_as_requests_at_once_and_no_more() -> None:
    connections: list[int] = []
    heads: list[str] = []

    async def scenario() -> None:
        server = await serve(heads, connections)
        port = server.sockets[0].getsockname()[1]
        poster = Poster(f"http://127.0.0.1:{port}/v1", TeacherSettings(concurrency=1))
        await poster.open()
        for _ in range(3):
            await asyncio.gather(*(poster.post("/completions", {}) for _ in range(150)))
        await poster.close()
        server.close()

    asyncio.run(scenario())
    assert len(heads) == 450
    assert 150 <= len(connections) <= 160


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:9"), ("SSL_CERT_FILE", "/no/such/certificates.crt")],
)
def test_an_environment_without_a_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(TeacherSetupError, match=f"https://127.0.0.1:9/v1: .*{variable}"):
        find_models(TeacherSettings(), ("https://127.0.0.1:9/v1",), ("generate",), print)
