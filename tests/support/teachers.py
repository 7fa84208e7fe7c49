"""Scripted teachers as processes of their own, for tests to start, kill and start again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class TeacherProcess:
    """A scripted teacher. Its answers are a function of the request; see `scripted_teacher`."""

    def __init__(self, log: Path, *options: str) -> None:
        self.log = log
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start(*options)

    @property
    def url(self) -> str:
        """What `teacher.base_url` is set to."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, *options: str) -> None:
        """Start it, on the port it had before if it had one; the log goes on."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.scripted_teacher", "--log", str(self.log),
             "--port", str(self.port), *options],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL: connections break."""
        if self._process is not None:
            assert self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """What it was asked and had an answer (or a fault) for, from the `since`-th on."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines[since:]]


TeacherFactory = Callable[..., TeacherProcess]
"""What the fixture `scripted_teacher` is: options to a teacher that ends with the test."""


@contextmanager
def running_teacher(log: Path, *options: str) -> Iterator[TeacherProcess]:
    """A teacher for as long as the context lasts."""
    teacher = TeacherProcess(log, *options)
    try:
        yield teacher
    finally:
        teacher.kill()
