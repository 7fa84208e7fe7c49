"""Real processes and real locks around a small engine."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from pipeline.teacher import processes
from pipeline.teacher.engine import EngineStatus, engine_folder, engine_status
from pipeline.teacher.engine_command import CommandFactory
from pipeline.teacher.engine_settings import EngineSettings
from tests.unit.teacher.engine_user import fake_command

ROOT = Path(__file__).parents[3]
HANGS_AFTER_S = 60.0


def until(condition: Callable[[], object]) -> None:
    """Wait; what does not come about is a hang."""
    deadline = time.monotonic() + HANGS_AFTER_S
    while not condition():
        assert time.monotonic() < deadline, "hangs"
        time.sleep(0.02)


@dataclass
class User:
    """A process that leases the engine."""

    process: subprocess.Popen[str]
    progress: list[str] = field(default_factory=list)

    def next_line(self) -> tuple[str, str]:
        assert self.process.stdout
        kind, _, rest = self.process.stdout.readline().strip().partition(" ")
        return kind, rest

    def outcome(self) -> tuple[str, str]:
        """('ready', 'PID URL') or ('error', TEXT); ('', '') when it died."""
        while (line := self.next_line())[0] == "progress":
            self.progress.append(line[1])
        return line

    def ready(self) -> tuple[int, str]:
        kind, rest = self.outcome()
        assert kind == "ready", (kind, rest)
        pid, url = rest.split()
        return int(pid), url

    def finish(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(HANGS_AFTER_S) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(HANGS_AFTER_S)


@dataclass
class EnginePlace:
    """An engine's settings, its state and its users."""

    settings: EngineSettings
    files: Path
    users: list[User] = field(default_factory=list)

    def arguments(self, *options: str) -> list[str]:
        return [str(self.files), *options]

    def command(self, *options: str) -> CommandFactory:
        return fake_command(self.arguments(*options))

    def user(self, *options: str) -> User:
        task = {
            "settings": self.settings.model_dump(mode="json"),
            "arguments": self.arguments(*options),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.teacher.engine_user", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.users.append(User(process))
        return self.users[-1]

    def status(self) -> EngineStatus:
        return engine_status(self.settings)

    def starts(self) -> list[int]:
        path = self.files / "starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def alive(self) -> set[int]:
        return processes.find_marked(engine_folder(self.settings).mark)

    def until_gone(self) -> None:
        until(lambda: self.status().state in {"stopped", "failed"})
        assert self.alive() == set()
        assert not [pid for pid in self.starts() if is_alive(pid)]

    def watchdog(self) -> int:
        record = engine_folder(self.settings).read_record()
        assert record
        return record.watchdog_pid


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ask(base_url: str) -> int:
    """The pid of the process that answers."""
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=HANGS_AFTER_S)
    connection.request("GET", "/health")
    return int(connection.getresponse().read())
