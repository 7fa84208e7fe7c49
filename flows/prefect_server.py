"""Which Prefect server a flow of the CLI talks to: the configured one, or one for this run alone.

The one for this run alone is a process that reads from a pipe of its starter: it ends when the pipe
does, also where the starter was killed. It takes its home directory with it.

    python -m flows.prefect_server PORT
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx

import flows
from pipeline.errors import EvoloomError, UsageError

if TYPE_CHECKING:
    import uvicorn

_START_LIMIT_S = 180.0
_STOP_LIMIT_S = 10.0
_TEMPORARY_HOME = "EVOLOOM_TEMPORARY_PREFECT_HOME"
_SERVE = (
    "import sys; sys.path.append(sys.argv.pop()); from flows.prefect_server import main; main()"
)
# For this process alone. The console belongs to the CLI's own display: what Prefect logs goes to its
# server. A server that is gone is given up after some 15 s, not after a minute.
_CLIENT_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLIENT_MAX_RETRIES": "3",
}


class PrefectServerError(EvoloomError):
    """Raised when a server for this run alone does not start."""


@contextlib.contextmanager
def prefect_server(on_message: Callable[[str], None]) -> Iterator[str]:
    """The address of the Prefect API to use, for as long as the context lasts.

    Prefect is imported in here, after its environment is set: it reads it only then.

    Raises:
        UsageError: the configured server does not answer.
        PrefectServerError: none is configured, and one for this run does not start.
    """
    defaults = {key: value for key, value in _CLIENT_DEFAULTS.items() if key not in os.environ}
    # Else Prefect prints to standard error, past all its settings and as late as at exit, that its
    # logs do not reach a server that is gone.
    logging.raiseExceptions = False
    with _environment(defaults):
        if url := configured_url():
            _check(url)
            yield url
            return
        with contextlib.ExitStack() as stack:
            own_home = os.environ.get("PREFECT_HOME")
            home = own_home or tempfile.mkdtemp(prefix="evoloom-prefect-")
            if not own_home:
                stack.callback(shutil.rmtree, home, ignore_errors=True)
            on_message("starting a Prefect server for this run (some 15 s)")
            port = _free_port()
            url = f"http://127.0.0.1:{port}/api"
            stack.enter_context(_environment({"PREFECT_HOME": home, "PREFECT_API_URL": url}))
            server = stack.enter_context(_temporary_server(port, home, is_own=not own_home))
            stack.enter_context(_prefect_settings(home, url))  # imported while the server starts
            _await_health(server, url, _log_of(home))
            yield url


def configured_server() -> str:
    """The address of the Prefect API that the user has configured; it answers.

    Raises:
        UsageError: none is configured, or it does not answer.
    """
    url = configured_url()
    if url is None:
        raise UsageError(
            "no Prefect server is configured: set PREFECT_API_URL, such as "
            "http://127.0.0.1:4200/api for the one that `evoloom up --detach` or `prefect server start` "
            "starts"
        )
    _check(url)
    return url


def configured_url() -> str | None:
    """PREFECT_API_URL, or what the active profile says where the user has profiles."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    # Importing prefect makes its home: not in the home of somebody who has none.
    if not profiles.exists() and "prefect" not in sys.modules:
        return None
    from prefect.settings import PREFECT_API_URL

    value = PREFECT_API_URL.value()
    return str(value) if value else None


def _check(url: str) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise UsageError(
            f"Prefect's server at {url} does not answer ({problem}). Start one (`evoloom up "
            "--detach`, `prefect server start`) or correct PREFECT_API_URL; where that is unset, "
            "commands that can do without a server do so"
        ) from problem


@contextlib.contextmanager
def _temporary_server(port: int, home: str, *, is_own: bool) -> Iterator[subprocess.Popen[bytes]]:
    log_path = _log_of(home)
    log_path.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        # The settings of the run, its key among them, are nothing to the server.
        **{
            key: value
            for key, value in os.environ.items()
            if not key.startswith("EVOLOOM_") and key != "PREFECT_API_URL"
        },
        "PREFECT_HOME": home,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_UI_ENABLED": "0",
        # What a server for a single run never needs, and two cores feel.
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
        **({_TEMPORARY_HOME: home} if is_own else {}),
    }
    package_root = str(Path(flows.__file__).resolve().parents[1])
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVE, str(port), package_root],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the run: its end is still to be told
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_health(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{url}/health", timeout=5.0).raise_for_status()
            return
        time.sleep(0.1)
    tail = " | ".join(log.read_text("utf-8", "replace").splitlines()[-3:])
    raise PrefectServerError(
        f"a Prefect server for this run did not start: {tail or 'it said nothing'}. Leave out "
        "--prefect to run without, or start one (`prefect server start`) and set PREFECT_API_URL"
    )


def _log_of(home: str) -> Path:
    return Path(home) / "evoloom-server.log"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _prefect_settings(home: str, url: str) -> Iterator[None]:
    """For a process in which prefect was imported before the environment was set."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
        yield


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def main() -> None:
    """Serve until standard input ends. The process that is started by `prefect_server`."""
    import uvicorn
    from prefect.server.api.server import create_app

    server = uvicorn.Server(
        uvicorn.Config(
            create_app, factory=True, host="127.0.0.1", port=int(sys.argv[1]), log_level="error"
        )
    )
    threading.Thread(target=_await_end, args=(sys.stdin.buffer, server), daemon=True).start()
    server.run()
    _remove_home()


def _await_end(pipe: IO[bytes], server: uvicorn.Server) -> None:
    pipe.read()
    server.should_exit = True
    time.sleep(_STOP_LIMIT_S / 2)  # a client that stays connected holds it up
    _remove_home()
    os.kill(os.getpid(), signal.SIGKILL)


def _remove_home() -> None:
    if home := os.environ.get(_TEMPORARY_HOME):
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
