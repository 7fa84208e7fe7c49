"""Runs the command line in tests: in this process where that shows as much, else as a command."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows import cli

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


class InProcess:
    """Calls `flows.cli.main` as the command does: same parsing, same messages, same exit codes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, **env: str) -> Ended:
        self._capsys.readouterr()
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["evoloom", *arguments])
            # Prefect, once set up, closes all handlers of logging; absl's then closes its stream
            # unless that is today's stderr. It is the stderr of pytest, from before capsys.
            patch.setattr("absl.logging.PythonHandler.close", lambda handler: None)
            for name, value in env.items():
                patch.setenv(name, value)
            code = 0
            try:
                cli.main()
            except SystemExit as exc:
                code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        captured = self._capsys.readouterr()
        return Ended(code, captured.out, captured.err)


def clean(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """An empty working directory, and no setting of whoever runs the tests."""
    monkeypatch.chdir(folder)
    for name in list(os.environ):
        if name.startswith(("EVOLOOM_", "PREFECT_")):
            monkeypatch.delenv(name)


def command(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, timeout: float = 120
) -> Ended:
    """Run it as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=cwd,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a command: this one's without settings, with the project on the path."""
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("EVOLOOM_", "PREFECT_"))}  # fmt: skip
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    return {**kept, "PYTHONPATH": path, **(extra or {})}


@contextmanager
def scripted_teacher(*options: str) -> Iterator[str]:
    """The scripted teacher as a process; gives its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.scripted_teacher", "--latency", "0", "0", *options],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.communicate()


@contextmanager
def fixed_server(status: int, body: str, content_type: str = "application/json") -> Iterator[str]:
    """A server that answers everything alike; gives its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *unused: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
