"""What is on disk about an engine: one folder for each distinct engine.

    lease.lock   held shared by every user; exclusively by the watchdog once nobody uses the engine
    owner.lock   held exclusively by the watchdog while it lives: at most one engine
    engine.json  what the watchdog says about the engine (`EngineRecord`), replaced atomically
    port         where the engine answered the last time
    engine.log   what the engine printed; `engine.log.1` is the engine before it
    holder.lock, holder.json   of `evoloom teacher start`

Only the locks say who is alive. engine.json may be left over from a watchdog that was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.teacher import processes

PORT = "{port}"
"""Stands for the port in an engine's command; the watchdog puts it in."""

State = Literal["starting", "ready", "stopping", "failed"]


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What the watchdog last said about its engine."""

    state: State
    launch_id: str
    """Names one start of the engine, so that who waits for it can tell its failure from another."""
    watchdog_pid: int
    watchdog_start: int
    """Clock ticks since boot; with the pid it names the process."""
    model: str
    pid: int | None = None
    """The engine's first process, leader of its process group."""
    port: int | None = None
    started_at: str = ""
    """When the engine was started, UTC, ISO 8601."""
    message: str = ""
    """Why it failed, in one line."""

    def has_living_watchdog(self) -> bool:
        """Whether the watchdog that wrote this still runs."""
        return processes.start_time(self.watchdog_pid) == self.watchdog_start

    @property
    def base_url(self) -> str | None:
        """The address for OpenAI clients."""
        return None if self.port is None else f"http://127.0.0.1:{self.port}/v1"


@dataclass(frozen=True, slots=True)
class EngineFolder:
    """The state of one engine; the paths in it."""

    path: Path

    @property
    def lease(self) -> Path:
        """Lock of the users."""
        return self.path / "lease.lock"

    @property
    def owner(self) -> Path:
        """Lock of the watchdog."""
        return self.path / "owner.lock"

    @property
    def record(self) -> Path:
        """File of the `EngineRecord`."""
        return self.path / "engine.json"

    @property
    def log(self) -> Path:
        """What the engine printed."""
        return self.path / "engine.log"

    @property
    def watchdog_log(self) -> Path:
        """What the watchdog printed: nothing, unless it has a fault."""
        return self.path / "watchdog.log"

    @property
    def holder_lock(self) -> Path:
        """Lock of the process that `evoloom teacher start` leaves behind."""
        return self.path / "holder.lock"

    @property
    def holder_record(self) -> Path:
        """Pid and start time of that process."""
        return self.path / "holder.json"

    @property
    def mark(self) -> str:
        """Value of `processes.MARK` in the environment of the engine's processes."""
        return str(self.path)

    @property
    def port_file(self) -> Path:
        """The port that the engine answered on the last time."""
        return self.path / "port"

    def read_record(self) -> EngineRecord | None:
        """The record, or None when there is none that this version can read."""
        try:
            return EngineRecord(**json.loads(self.record.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write_record(self, record: EngineRecord) -> None:
        """Replace the record atomically."""
        write_json(self.record, dataclasses.asdict(record))

    def remove_record(self) -> None:
        """Remove the record, if there is one."""
        self.record.unlink(missing_ok=True)

    def rotate_log(self) -> None:
        """Keep the previous engine's log beside the new one."""
        with contextlib.suppress(FileNotFoundError):
            self.log.replace(self.log.with_name("engine.log.1"))


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a small JSON file atomically; only one process at a time writes any of them."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)
