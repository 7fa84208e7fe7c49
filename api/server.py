"""Listening: `evoloom serve` ends up here."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from api.app import make_app
from api.service import open_service
from flows import logs
from pipeline.addresses import is_loopback
from pipeline.config import Settings
from pipeline.errors import UsageError
from store.service.database import ServiceDatabase
from store.service.keys import list_keys, set_admin_key

_BACKLOG = 512


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve a store until SIGTERM or SIGINT.

    Raises:
        UsageError: the address cannot be listened on, would be open to everybody, the store cannot be
            used, or the admin key cannot.
    """
    _set_up_logging()
    if settings.api.admin_key is not None:
        with ServiceDatabase(settings.store.path) as database:
            set_admin_key(database, settings.api.admin_key.get_secret_value())
    check_address(settings)
    with (
        _ended_by_signals(),
        _listen(settings.api.host, settings.api.port) as listener,
        open_service(settings) as service,
    ):
        host, port = listener.getsockname()[:2]
        say(f"serving {settings.store.path} on http://{_shown(host)}:{port}/v1")
        config = uvicorn.Config(
            make_app(service),
            log_config=None,
            access_log=False,
            server_header=False,
            # httptools reads heads of any size; h11 stops at this many bytes.
            http="h11",
            h11_max_incomplete_event_size=max(64 * 1024, 2 * settings.api.max_header_bytes),
            timeout_graceful_shutdown=max(1, round(settings.api.grace_s)),
            timeout_keep_alive=30,
            lifespan="off",
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listener])


class _EndedError(BaseException):
    """A signal asked for the end; no `except Exception` is to keep it from being one."""


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave the block, closing what it has opened, at SIGTERM and SIGINT.

    uvicorn raises the signal once more when it has shut down; with the handler that Python starts with
    SIGTERM would then end the process before anything is closed.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise _EndedError

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _EndedError:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_address(settings: Settings) -> None:
    """Refuse to listen where everybody could do everything.

    Raises:
        UsageError: the address is not loopback, and keys are off or there is none.
    """
    api = settings.api
    if is_loopback(api.host, "api.host"):
        return
    if api.auth == "off":
        raise UsageError(
            f"api.auth is 'off', and {api.host} is no loopback address: everybody there could do "
            "everything. Listen on 127.0.0.1, or leave api.auth at 'keys'"
        )
    with ServiceDatabase(settings.store.path) as database:
        if not any(key.revoked_at is None for key in list_keys(database)):
            raise UsageError(
                f"there is no key, so nothing is served on {api.host}: make one with `evoloom keys "
                f"create --scope submit,read --store {settings.store.path}`, or listen on 127.0.0.1"
            )


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        raise UsageError(f"{host}:{port} cannot be listened on: {exc.strerror or exc}") from exc
    listener.setblocking(False)
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _set_up_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    as_json = logs.is_json()
    handler.setFormatter(logs.JsonFormatter() if as_json else logging.Formatter("%(message)s"))
    for name, level in (("evoloom", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
