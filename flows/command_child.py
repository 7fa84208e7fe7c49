"""An evoloom command executed in a child process: started, followed, stopped with grace.

For what is a command of its own (curation, training, evaluation), as `flows.supervision` is for runs
that ask a teacher. Knows no Prefect.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import flows
from flows import logs
from flows.following import Follower, Tail, blocked_signals
from flows.runs import Listener
from pipeline.errors import EvoloomError, InterruptedRunError, UsageError

_COMMAND = (
    "import signal, sys; signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT)); "
    "sys.path.append(sys.argv.pop()); from flows.cli import main; sys.argv[0] = 'evoloom'; main()"
)
_INTERRUPTED = frozenset({75, 130, -signal.SIGTERM, -signal.SIGINT})


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended.

    `result` is what it printed as JSON (its last line that is an object), None where it printed
    none; `message` is the last thing that it said on standard error.
    """

    exit_code: int
    result: dict[str, Any] | None
    message: str
    log: Path
    was_stopped: bool

    @property
    def is_interrupted(self) -> bool:
        """Whether it can be resumed by the same command."""
        return self.exit_code in _INTERRUPTED or (self.was_stopped and self.exit_code != 0)

    def error(self) -> EvoloomError | None:
        """The error of its exit code; None where it succeeded."""
        if self.exit_code == 0:
            return None
        if self.is_interrupted:
            return InterruptedRunError(self.message or f"interrupted; see {self.log}")
        if self.exit_code == 2:
            return UsageError(self.message)
        if self.exit_code == 1 and self.message:
            return EvoloomError(self.message)
        return EvoloomError(f"its process ended with code {self.exit_code}; see {self.log}")


class CommandFollower(Follower):
    """One execution of an evoloom command in a child process.

    A child that an earlier follower with the same folder left behind is followed to its end first;
    then the command is started, which is to find what was done already.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        listener: Listener,
        *,
        progress: Path | None = None,
        grace_s: float = 30.0,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            arguments: what follows `evoloom` on the command line.
            folder: where the child's lock, log (standard error) and standard output lie.
            progress: a file of JSON lines that the command appends to; it need not exist yet.
        """
        super().__init__(folder, grace_s, should_stop)
        self._arguments = list(arguments)
        self._listener = listener
        self._out: Path | None = None
        self._said = Tail(self.log, skip=True)
        self._progress = Tail(progress, skip=True) if progress else None
        self._message = ""

    def run(self) -> CommandEnd:
        """Follow the command to its end; an interruption of this thread is forwarded to it.

        Raises:
            UsageError: the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UsageError(f"{self.folder}: cannot be written: {exc.strerror or exc}") from exc
        self.follow()
        if self._child is None:
            return CommandEnd(-signal.SIGTERM, None, "stopped before it began", self.log, True)
        assert self._out is not None
        result = _last_object(self._out)
        self._out.unlink(missing_ok=True)
        code = self._child.returncode
        return CommandEnd(code, result, self._message, self.log, self._stopped_by is not None)

    def _start(self) -> bool:
        if self._child is not None:
            return True  # interrupted just after it
        # Held by the child from its first moment on, and for as long as it lives: a lock belongs to
        # the open file, which both have.
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._launch(lock)
        finally:
            os.close(lock)
        return self._child is not None

    def _launch(self, lock: int) -> None:
        for stale in self.folder.glob("out-*"):
            stale.unlink(missing_ok=True)
        self._out = self.folder / f"out-{token_hex(4)}"
        with self.log.open("ab") as log, self._out.open("wb") as out, blocked_signals():
            self._child = subprocess.Popen(
                evoloom_command(self._arguments),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
            )
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(self._child.pid).encode(), 0)

    def _forget_child(self) -> None:
        code = self._child.returncode if self._child else 0
        self._child = None
        with contextlib.suppress(Exception):  # a display that fails stops nothing
            self._listener.message(
                f"the command's process was killed ({signal.Signals(-code).name}); starting it again"
            )

    def _tell(self) -> None:
        for text in self._said.lines():
            self._message = logs.message_of(text)
            with contextlib.suppress(Exception):  # a display that fails stops nothing
                self._listener.message(self._message if logs.is_json() else text)
        for record in self._progress.read() if self._progress else ():
            with contextlib.suppress(Exception):
                self._listener.progress(record)


def evoloom_command(arguments: Sequence[str]) -> list[str]:
    """What a command is started with, in this environment."""
    # -P: a folder `flows` in the working directory, which Prefect users have, is not ours.
    package_root = str(Path(flows.__file__).resolve().parents[1])
    return [sys.executable, "-P", "-c", _COMMAND, *arguments, package_root]


def _last_object(path: Path) -> dict[str, Any] | None:
    for line in reversed(path.read_text("utf-8", "replace").splitlines()):
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                return value
    return None
