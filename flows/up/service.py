"""One service of `evoloom up`: how it is started, when it is healthy, when it is started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows import logs
from flows.up.place import ServiceState, ServiceStatus, bound, last_line
from pipeline.teacher.processes import die_with_parent

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
FORGIVEN_AFTER_S = 60.0
"""A service that was healthy for so long begins again with the shortest pause."""
_CHECK_STARTING_S = 0.5
_CHECK_HEALTHY_S = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """What is started, and how it is told whether it is well."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    is_healthy: Callable[[Life], bool | None]
    """Asked with the present life of its process; None: that cannot be told at present."""
    needs: tuple[str, ...] = ()
    """Services without which it is not started."""
    start_limit_s: float = 600.0
    """Seconds until it is healthy; then it is killed and started again."""
    patience_s: float = 60.0
    """Seconds that it may not answer once it was healthy."""
    grace_s: float = 30.0
    """Seconds from SIGTERM until it is killed."""


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a service."""

    pid: int
    began: float
    """Seconds since 1970."""


class Supervised:
    """A service under supervision."""

    def __init__(self, service: Service, log: Path, say: Callable[[str], None]) -> None:
        self.service = service
        self.log = log
        self.state: ServiceState = "waiting"
        self.was_healthy = False
        """Ever."""
        self.failed_starts = 0
        """How often it has ended before it was healthy for the first time."""
        self.exit_code: int | None = None
        """Of the last process that has ended by itself."""
        self.message = ""
        self.restarts = 0
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._life: Life | None = None
        self._log_from = 0
        self._began = 0.0
        self._next_check = 0.0
        self._well_at = 0.0
        self._healthy_since = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._start_at = 0.0

    @property
    def pid(self) -> int | None:
        """Of its process, while there is one."""
        return self._process.pid if self._process else None

    def status(self) -> ServiceStatus:
        """What there is to say about it."""
        return ServiceStatus(
            self.service.name, self.state, self.pid, self.restarts, str(self.log), self.message
        )

    def step(self, *, may_start: bool) -> None:
        """Look once: start it, note that it has ended, ask whether it is well."""
        now = time.monotonic()
        if self._process is None:
            if may_start and now >= self._start_at:
                self._start(now)
            return
        with contextlib.suppress(OSError):  # a full disk
            bound(self.log)
        code = self._process.poll()
        if code is not None:
            self.exit_code = code
            self._again(_ended(code, logs.message_of(last_line(self.log, self._log_from))), now)
        elif now >= self._next_check:
            self._check(now)

    def _start(self, now: float) -> None:
        self.log.touch()
        self._log_from = self.log.stat().st_size
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.service.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.service.environment),
                # Ctrl-C is the supervisor's: it stops its services in order.
                start_new_session=True,
                # The supervisor has one thread. SIGKILL: nothing may hang about, all of them are
                # made to be killed, and to a worker another signal would mean to stop its runs.
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        self._life = Life(self._process.pid, time.time())
        self.state = "starting"
        self._began = self._well_at = now
        self._next_check = now
        self._say(f"{self.service.name}: started (process {self._process.pid})")

    def _check(self, now: float) -> None:
        assert self._life is not None
        well = self.service.is_healthy(self._life)
        if well or (well is None and self.state == "healthy"):
            self._well_at = now
            if self.state != "healthy":
                self._say(f"{self.service.name}: healthy")
                self.state, self.was_healthy, self._healthy_since = "healthy", True, now
            elif now - self._healthy_since >= FORGIVEN_AFTER_S:
                self._pause_s = FIRST_PAUSE_S
            self._next_check = now + _CHECK_HEALTHY_S
            return
        self._next_check = now + _CHECK_STARTING_S
        limit = self.service.start_limit_s
        if self.state != "starting":
            self.state, limit = "not answering", self.service.patience_s
        if now - self._well_at >= limit and well is not None:
            self.kill()
            self._again(f"did not answer for {limit:g} s and was killed", now)

    def _again(self, why: str, now: float) -> None:
        if not self.was_healthy:
            self.failed_starts += 1
        self._process = self._life = None
        self.state, self.message = "backing off", why
        self.restarts += 1
        self._start_at = now + self._pause_s
        self._say(f"{self.service.name}: {why}; started again in {self._pause_s:g} s")
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Ask it to end, and kill it after its grace time."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(self.service.grace_s)
            except subprocess.TimeoutExpired:
                self._say(f"{self.service.name}: killed after {self.service.grace_s:g} s")
                self.kill()
            self._say(f"{self.service.name}: stopped")
        self._process = self._life = None
        self.state = "stopped"

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _ended(code: int, line: str) -> str:
    # What it said last has nothing to do with these.
    if -code in (signal.SIGKILL, signal.SIGTERM):
        return f"was killed by {signal.Signals(-code).name}"
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return how + (f" ({line[:300]})" if line else "")
