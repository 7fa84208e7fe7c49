"""Where `evoloom up` keeps its state, and what it says there about itself.

    lock           held by the supervisor while it lives; its content is the process id
    status.json    what the supervisor last said (`Status`), replaced atomically
    ports.json     the ports that were free when the first `up` looked, kept for the next
    teacher.json   where the local engine answers, by the service that holds it
    steward        touched by the steward whenever it has looked
    prefect/       Prefect's home: its database, where the server is ours
    logs/          what each service printed, `NAME.log`, and before that `NAME.log.1`

Only the lock says who is alive.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import EvoloomError, UsageError
from pipeline.teacher.engine_state import write_json
from pipeline.teacher.locks import is_locked, open_lock, try_lock

MOST_LOG_BYTES = 10 * 2**20
"""Where a log file is cut: what it holds then is kept once, as NAME.log.1."""

ServiceState = Literal["waiting", "starting", "healthy", "not answering", "backing off", "stopped"]


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What the supervisor says about one service."""

    name: str
    state: ServiceState
    pid: int | None
    restarts: int
    """How often it was started again since the supervisor began."""
    log: str
    message: str = ""
    """Why it was started again the last time."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the supervisor says about itself."""

    state: Literal["starting", "up", "stopping", "down"]
    pid: int
    addresses: dict[str, str] = field(default_factory=dict)
    """What answers where, by name."""
    services: tuple[ServiceStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of the state; the paths in it."""

    path: Path

    @property
    def lock(self) -> Path:
        """The supervisor's lock."""
        return self.path / "lock"

    @property
    def teacher(self) -> Path:
        """Where the local engine answers."""
        return self.path / "teacher.json"

    @property
    def steward(self) -> Path:
        """What the steward touches."""
        return self.path / "steward"

    @property
    def prefect_home(self) -> Path:
        """Prefect's home where the server is ours."""
        return self.path / "prefect"

    @property
    def mark(self) -> str:
        """What every process that `up` has started carries in its environment."""
        return str(self.path)

    def log(self, name: str) -> Path:
        """The log file of a service."""
        return self.path / "logs" / f"{name}.log"

    def make(self) -> None:
        """Make the folders.

        Raises:
            UsageError: they cannot be written.
        """
        try:
            self.log("x").parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UsageError(
                f"--state {self.path}: cannot be written: {exc.strerror or exc}"
            ) from exc

    def read_status(self) -> Status | None:
        """What the supervisor last said; None where there is nothing that can be read. Whether it
        still holds is for the lock to say."""
        try:
            raw = json.loads((self.path / "status.json").read_text())
            services = tuple(ServiceStatus(**row) for row in raw.pop("services"))
            return Status(**raw, services=services)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write_status(self, status: Status) -> None:
        """Say it."""
        write_json(self.path / "status.json", asdict(status))

    def supervisor(self) -> int | None:
        """Process id of the living supervisor."""
        if not is_locked(self.lock):
            return None
        with contextlib.suppress(OSError, ValueError):
            return int(self.lock.read_text())
        return None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the one supervisor.

        Raises:
            UsageError: there is one.
        """
        lock = open_lock(self.lock)
        try:
            # Whoever asks for the status holds it shared for an instant.
            deadline = time.monotonic() + 2.0
            while not try_lock(lock, fcntl.LOCK_EX):
                if time.monotonic() >= deadline:
                    holder = os.pread(lock, 20, 0).decode("utf-8", "replace") or "unknown"
                    raise UsageError(
                        f"`evoloom up` is running already (process {holder}, state {self.path}): "
                        "`evoloom up --status` shows it, `evoloom down` stops it"
                    )
                time.sleep(0.05)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(lock)

    def port(self, name: str, wanted: int, option: str) -> int:
        """The port of a service: the one that is wanted, or for 0 one that is free, the same at every
        `up`, so that what has gone on without us finds us again.

        Raises:
            UsageError: it is taken.
        """
        path, kept = self._ports()
        chosen = wanted or int(kept.get(name, 0))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", chosen))
            except OSError as exc:
                raise UsageError(
                    f"{option}: port {chosen} of 127.0.0.1 cannot be listened on "
                    f"({exc.strerror}). Stop what is there, or give another one"
                ) from exc
            found = int(probe.getsockname()[1])
        write_json(path, {**kept, name: found})
        return found

    def is_own(self, url: str, name: str, wanted: int) -> bool:
        """Whether an address is the one that `port` gave a service at the last `up`, and would give
        again, and nothing answers there."""
        _, kept = self._ports()
        port = kept.get(name)
        if port is None or wanted not in (0, port) or f"://127.0.0.1:{port}/" not in f"{url}/":
            return False
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    def _ports(self) -> tuple[Path, dict[str, Any]]:
        path = self.path / "ports.json"
        kept: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            kept = json.loads(path.read_text())
        return path, kept


class StartFailedError(EvoloomError):
    """Raised when a service does not come up for the first time."""


class RefusedStartError(StartFailedError):
    """Raised when a service ended at its start because of how it is set up."""

    exit_code = 2


def bound(log: Path) -> None:
    """Cut a log that has grown too large, keeping what it held once. Its writer appends, and goes on
    at the new end."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > MOST_LOG_BYTES:
            log.with_name(f"{log.name}.1").write_bytes(log.read_bytes())
            os.truncate(log, 0)


def last_line(log: Path, since: int = 0) -> str:
    """The last line with something in it that was written after a position; '' if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(since)
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
