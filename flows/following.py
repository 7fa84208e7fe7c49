"""Following a child process to its end, whatever is raised in the thread that follows it.

The child is a session of its own and writes to files, so that neither a signal meant for its starter
nor the starter's death reaches it. It holds the lock file of its folder while it lives; whoever comes
after a starter that died finds the lock taken, and follows that child first. Knows no Prefect.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flows.child import STOP_SIGNALS

AFTER_GRACE_S = 30.0
"""What a child may take after its grace time: derive, make durable, ingest, publish."""
MOST_RESTARTS = 5
"""How often within an hour a child that something killed is started again. What is killed more often
than that has a lasting cause, such as a lack of memory."""
_RESTART_WINDOW_S = 3600.0
_POLL_S = 0.1


class Follower(ABC):
    """One child process, followed and stopped with grace. `follow` the child, then look how it
    ended."""

    def __init__(
        self, folder: Path, grace_s: float, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        """
        Args:
            folder: where the child's log and lock lie.
            grace_s: what the child takes for its own grace time when it is told to stop.
            should_stop: asked often; True stops the child with grace, as SIGTERM does.
        """
        self.folder = folder
        self.log = folder / "log"
        self.caught: BaseException | None = None
        """What first told the follower to stop the child: Ctrl-C, or what Prefect raises."""
        self._grace_s = grace_s
        self._should_stop = should_stop
        self._lock = folder / "lock"
        self._child: subprocess.Popen[bytes] | None = None
        self._pending: list[signal.Signals] = []
        self._stopped_by: signal.Signals | None = None
        self._escalate_at: float | None = None
        self._escalations = [signal.SIGTERM, signal.SIGKILL]
        self._kills: list[float] = []

    @property
    def is_stopping(self) -> bool:
        """Whether the child was told to stop, or is about to be."""
        return self._stopped_by is not None or bool(self._pending)

    def follow(self) -> None:
        """Follow the child that is there, if any, then one of its own, to the end. An interruption
        of this thread is forwarded to the child, which gets its grace time. A child that is killed
        by somebody else is started again, up to `MOST_RESTARTS` times an hour.

        Raises:
            Exception: what was raised in here meanwhile and is no interruption.
        """
        self._follow(lambda: not is_locked(self._lock))
        while not self.is_stopping:
            self._follow(self._begin)
            self._follow(self._child_is_gone)
            if self._is_over():
                break
            self._forget_child()
        if isinstance(self.caught, Exception):  # a time limit, or a mistake in here
            raise self.caught

    def _is_over(self) -> bool:
        return self.is_stopping or not self._is_to_start_again()

    def _begin(self) -> bool:
        """Start the child. One that cannot be started is not tried again and again."""
        return (self.is_stopping and self._child is None) or self._start()

    @abstractmethod
    def _start(self) -> bool:
        """Start the child unless it was; True when it is."""

    @abstractmethod
    def _forget_child(self) -> None:
        """Be ready to start another one."""

    def _is_to_start_again(self) -> bool:
        """Whether the child was killed, and not too often already."""
        code = self._child.returncode if self._child else 0
        # One that ended by a signal meant for ending was told to by somebody.
        if code >= 0 or -code in STOP_SIGNALS:
            return False
        now = time.monotonic()
        self._kills = [at for at in self._kills if now - at < _RESTART_WINDOW_S]
        if len(self._kills) >= MOST_RESTARTS:
            return False
        self._kills.append(now)
        return True

    @abstractmethod
    def _tell(self) -> None:
        """Pass on what the child's files say that is new."""

    def _child_is_gone(self) -> bool:
        return self._child is None or self._child.poll() is not None

    def _follow(self, is_over: Callable[[], bool]) -> None:
        while True:
            try:
                ended = is_over()  # before the last look at its files
                self._tell()
                if ended:
                    return
                self._stop_if_told()
                time.sleep(_POLL_S)
            except asyncio.CancelledError:
                # By Prefect into this thread, when its server no longer knows that the flow run has
                # a place under a limit (it was started again, or is away). The child has its work.
                continue
            except BaseException as exc:  # noqa: BLE001  forwarded, told to the caller in `caught`
                # As little as can be: another signal may arrive in here.
                self._pending.append(_signal_of(exc))
                self.caught = self.caught or exc

    def _stop_if_told(self) -> None:
        if not self.is_stopping and self._should_stop():
            self._pending.append(signal.SIGTERM)
        if self._escalate_at is not None and time.monotonic() >= self._escalate_at:
            # Grace is over: what is in flight is given up, then the process is. Both are safe, what
            # was journaled stays.
            self._escalate_at = time.monotonic() + AFTER_GRACE_S
            self._pending.append(self._escalations.pop(0) if self._escalations else signal.SIGKILL)
        while self._pending:
            number = self._pending[0]
            self._send(number)
            if self._stopped_by is None:
                self._stopped_by = number
                self._escalate_at = time.monotonic() + self._grace_s + AFTER_GRACE_S
            self._pending.pop(0)

    def _send(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)
            return
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._lock.read_text())
            if is_locked(self._lock):  # else the number may be another's by now
                os.kill(pid, number)


class Tail:
    """Reads the lines that were appended to a file since the last look."""

    def __init__(self, path: Path, *, skip: bool = False) -> None:
        """
        Args:
            skip: leave out what is there already.
        """
        self.path = path
        self._offset = path.stat().st_size if skip and path.exists() else 0

    def lines(self) -> list[str]:
        """The whole lines that are new, empty ones left out; a file that is not there has none."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [line for line in whole.decode("utf-8", "replace").split("\n") if line.strip()]

    def read(self) -> list[dict[str, Any]]:
        """The objects of the new lines that are JSON."""
        values = []
        for line in self.lines():
            # A line of a process that was killed while it wrote is not for anybody.
            with contextlib.suppress(ValueError):
                values.append(json.loads(line))
        return [value for value in values if isinstance(value, dict)]


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """For starting a child: a signal can neither lose it between its start and its being known, nor
    kill it before it listens. The child inherits the mask and lifts it when it does."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file at this moment."""
    with contextlib.suppress(FileNotFoundError):
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
    return False


def _signal_of(exc: BaseException) -> signal.Signals:
    return signal.SIGINT if isinstance(exc, KeyboardInterrupt) else signal.SIGTERM
