"""Commands of evoloom as processes of their own, for what would keep the service from answering."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import flows
from pipeline.errors import EvoloomError, UsageError

_CLI = "import sys; sys.path.append(sys.argv.pop()); from flows.cli import main; main()"


def run_command(*arguments: str, limit_s: float = 600.0) -> Any:
    """Run a command that prints JSON to its end.

    Raises:
        UsageError: it refused what it was given.
        EvoloomError: it failed, or took too long.
    """
    try:
        done = subprocess.run(
            [*_start(), *arguments, "--json", _package_root()],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False,
            # Nobody waits for the language model; the publisher analyses what was made.
            env={**os.environ, "EVOLOOM_STORE__ANALYSE": "false"},
        )  # fmt: skip
    except subprocess.TimeoutExpired as exc:
        raise EvoloomError(f"evoloom {arguments[0]} took longer than {limit_s:g} s") from exc
    if done.returncode == 0:
        return json.loads(done.stdout)
    text = done.stderr.decode("utf-8", "replace").strip()
    message = text.removeprefix("evoloom: ") or f"evoloom {arguments[0]}: code {done.returncode}"
    raise (UsageError if done.returncode == 2 else EvoloomError)(message)


class Publisher:
    """Ingests, publishes and analyses when told to, in processes of their own, one at a time."""

    def __init__(self, store_path: Path, *, analyse: bool) -> None:
        self._store_path = store_path
        self._analyse = analyse
        self._wanted = threading.Event()
        self._is_closed = False
        self._thread = threading.Thread(target=self._loop, name="publisher", daemon=True)
        self._thread.start()

    def publish(self) -> None:
        """Have what is new ingested and published soon."""
        self._wanted.set()

    def close(self) -> None:
        """Look no more; a process that is at work goes on to its end."""
        self._is_closed = True
        self._wanted.set()

    def _loop(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            for command in ("ingest", "analyse") if self._analyse else ("ingest",):
                if self._is_closed:
                    return
                # A store that somebody holds is written by the next command that can; where this
                # machine can start no process, so is this one.
                with contextlib.suppress(OSError):
                    subprocess.run(
                        [*_start(), "store", command, "--store", str(self._store_path),
                         _package_root()],
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL, start_new_session=True, check=False,
                    )  # fmt: skip


def _start() -> list[str]:
    return [sys.executable, "-P", "-c", _CLI]


def _package_root() -> str:
    return str(Path(flows.__file__).resolve().parents[1])
