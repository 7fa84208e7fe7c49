"""Supervises a run that a child process executes: starts it, follows it, stops it with grace.

The child is a session of its own and writes to files beside the run directory, `RUN.flow/`, so that
neither a signal meant for the supervisor nor its death reaches it. Knows no Prefect.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import flows
from flows.child import KEY_VARIABLE, STOP_SIGNALS, Order
from flows.runs import Listener
from pipeline.config import Settings, dump
from pipeline.errors import EvoloomError, InterruptedRunError, UsageError
from pipeline.run.driver import RunEnd
from store.run_directory import SETTLED_STATES, read_state, runs_directory
from store.run_writer import PROGRESS

_POLL_S = 0.1
# What the child does after its grace time: derive, make durable, ingest, publish.
_AFTER_GRACE_S = 30.0
_CHILD = (
    "import sys; sys.path.append(sys.argv.pop()); from flows.child import main; sys.exit(main())"
)


class StoppedEarlyError(InterruptedRunError):
    """Raised when a run was stopped before there was a run directory: nothing was paid for."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class CrashedChildError(EvoloomError):
    """Raised when a child failed in a way nobody foresaw; its log has the traceback."""


class Supervisor:
    """One execution of a run in a child process.

    A child that an earlier supervisor of the same run left behind is followed to its end first, and
    stopped as if it were this one's own; then the run is resumed if there is anything left.
    """

    def __init__(
        self,
        kind: str,
        run_id: str,
        settings: Settings,
        listener: Listener,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            should_stop: asked often; True stops the run with grace, as SIGTERM does.
        """
        store_path = settings.store.path
        self.run_id = run_id
        self.run_dir = runs_directory(store_path) / run_id
        self.folder = self.run_dir.with_name(f"{run_id}.flow")
        self.log = self.folder / "log"
        self.caught: BaseException | None = None
        """What first told the supervisor to stop the run: Ctrl-C, or what Prefect raises."""
        self._kind = kind
        self._settings = settings
        self._listener = listener
        self._should_stop = should_stop
        self._lock = self.folder / "lock"
        self._child: subprocess.Popen[bytes] | None = None
        self._events: _Tail | None = None
        self._progress = _Tail(self.run_dir / PROGRESS, skip=True)
        self._last_event: dict[str, Any] = {}
        self._pending: list[signal.Signals] = []
        self._stopped_by: signal.Signals | None = None
        self._escalate_at: float | None = None
        self._escalations = [signal.SIGTERM, signal.SIGKILL]

    @property
    def is_stopping(self) -> bool:
        """Whether the run was told to stop, or is about to be."""
        return self._stopped_by is not None or bool(self._pending)

    def run(self) -> RunEnd:
        """Follow the run to its end, whatever is raised in this thread meanwhile: an interruption is
        forwarded to the child, which gets its grace time.

        Raises:
            EvoloomError: the run could not start, or failed.
        """
        self._make_folder()
        self._follow(lambda: not _is_locked(self._lock))
        if not self.is_stopping:
            self._follow(self._start)
            self._follow(self._child_is_gone)
        if isinstance(self.caught, Exception):  # a time limit, or a mistake in here
            raise self.caught
        return self._end()

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise UsageError(
                f"store {self._settings.store.path}: cannot write {self.folder}: {exc.strerror}"
            ) from exc

    def _start(self) -> bool:
        if self._events is not None:
            return True  # interrupted just after it
        for stale in self.folder.glob("events-*.jsonl"):
            stale.unlink(missing_ok=True)
        events = self.folder / f"events-{token_hex(4)}.jsonl"
        order = self.folder / "order.json"
        Order(self._kind, self.run_id, dump(self._settings), events, self._lock).write(order)
        self._events = _Tail(events)
        # Blocked, a signal can neither lose the child between its start and its being known here, nor
        # kill it before it listens: the child inherits the mask and lifts it when it does.
        with self.log.open("ab") as log, _blocked_signals():
            self._child = subprocess.Popen(
                child_command(order),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_child_environment(self._settings),
                start_new_session=True,
            )
        return True

    def _child_is_gone(self) -> bool:
        return self._child is None or self._child.poll() is not None

    def _follow(self, is_over: Callable[[], bool]) -> None:
        while True:
            try:
                if self._step(is_over):
                    return
                time.sleep(_POLL_S)
            except BaseException as exc:  # noqa: BLE001  forwarded, told to the caller in `caught`
                # As little as can be: another signal may arrive in here.
                self._pending.append(_signal_of(exc))
                self.caught = self.caught or exc

    def _step(self, is_over: Callable[[], bool]) -> bool:
        ended = is_over()  # before the last look at its files
        for event in self._events.read() if self._events else ():
            self._last_event = event
            if "message" in event:
                with contextlib.suppress(Exception):  # a display that fails stops no run
                    self._listener.message(event["message"])
        for record in self._progress.read():
            with contextlib.suppress(Exception):
                self._listener.progress(record)
        if not ended:
            self._stop_if_told()
        return ended

    def _stop_if_told(self) -> None:
        if not self.is_stopping and self._should_stop():
            self._pending.append(signal.SIGTERM)
        if self._escalate_at is not None and time.monotonic() >= self._escalate_at:
            # Grace is over: what is in flight is given up, then the process is. Both are safe, what
            # was journaled stays.
            self._escalate_at = time.monotonic() + _AFTER_GRACE_S
            self._pending.append(self._escalations.pop(0) if self._escalations else signal.SIGKILL)
        while self._pending:
            number = self._pending[0]
            self._send(number)
            if self._stopped_by is None:
                self._stopped_by = number
                grace_s = self._settings.run.grace_s + _AFTER_GRACE_S
                self._escalate_at = time.monotonic() + grace_s
            self._pending.pop(0)

    def _send(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(number)
            return
        with contextlib.suppress(OSError, ValueError):
            pid = int(self._lock.read_text())
            if _is_locked(self._lock):  # else the number may be another's by now
                os.kill(pid, number)

    def _end(self) -> RunEnd:
        event = self._last_event
        if self._stopped_by is None and self._pending:
            self._stopped_by = self._pending[0]
        if self._events is not None:
            self._events.path.unlink(missing_ok=True)
        if not self.run_dir.exists():
            raise self._failure(event)
        if "end" in event:
            end = event["end"]
            return RunEnd(end["state"], end["reason"], _error(end["error"]))
        if "failed" in event:
            raise self._failure(event)
        # A child that was killed, or that was not this one's, cannot say how it ended.
        state = read_state(self.run_dir)
        if state.state in SETTLED_STATES:
            return RunEnd("completed" if state.state == "completed" else "ceiling", state.reason)
        return RunEnd("interrupted", self._stopped_by.name if self._stopped_by else "killed")

    def _failure(self, event: dict[str, Any]) -> EvoloomError:
        failed = event.get("failed")
        if failed and failed.get("unexpected"):
            return CrashedChildError(f"run {self.run_id}: {failed['message']}; see {self.log}")
        if error := _error(failed):
            return error
        if self._stopped_by or "end" in event:
            number = self._stopped_by.name if self._stopped_by else event["end"]["reason"]
            return StoppedEarlyError(
                f"run {self.run_id} was stopped ({number}) before it began; nothing was asked",
                130 if number == "SIGINT" else 75,
            )
        code = self._child.returncode if self._child else None
        return CrashedChildError(
            f"run {self.run_id}: its process ended (code {code}) before the run began; see {self.log}"
        )


def child_command(order: Path) -> list[str]:
    """What a child is started with."""
    # -P: a folder `flows` in the working directory, which Prefect users have, is not ours.
    package_root = str(Path(flows.__file__).resolve().parents[1])
    return [sys.executable, "-P", "-c", _CHILD, str(order), package_root]


class _Tail:
    """Reads the JSON lines that were appended to a file since the last look."""

    def __init__(self, path: Path, *, skip: bool = False) -> None:
        """
        Args:
            skip: leave out what is there already.
        """
        self.path = path
        self._offset = path.stat().st_size if skip and path.exists() else 0

    def read(self) -> list[dict[str, Any]]:
        """The whole lines that are new; a file that is not there has none."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        values = []
        for line in whole.splitlines():
            # A line of a process that was killed while it wrote is not for anybody.
            with contextlib.suppress(ValueError):
                values.append(json.loads(line))
        return [value for value in values if isinstance(value, dict)]


def _child_environment(settings: Settings) -> dict[str, str]:
    environment = dict(os.environ)
    key = settings.teacher.api_key
    if key is not None:
        environment[KEY_VARIABLE] = key.get_secret_value()
    return environment


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signal_of(exc: BaseException) -> signal.Signals:
    return signal.SIGINT if isinstance(exc, KeyboardInterrupt) else signal.SIGTERM


def _error(told: dict[str, Any] | None) -> EvoloomError | None:
    """An error as the child told it, of the class that has its exit code."""
    if told is None:
        return None
    kinds = {kind.exit_code: kind for kind in (UsageError, InterruptedRunError)}
    return kinds.get(told["exit_code"], EvoloomError)(told["message"])


def _is_locked(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
    return False
