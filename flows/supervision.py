"""Supervises a run that a child process executes: starts it, follows it, stops it with grace.

The child is a session of its own and writes to files beside the run directory, `RUN.flow/`, so that
neither a signal meant for the supervisor nor its death reaches it. Knows no Prefect.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any

import flows
from flows.child import KEY_VARIABLE, Order
from flows.following import Follower, Tail, blocked_signals
from flows.runs import Listener
from pipeline.config import Settings, dump
from pipeline.errors import EvoloomError, InterruptedRunError, UsageError
from pipeline.run.driver import RunEnd
from store.run_directory import SETTLED_STATES, read_state, runs_directory
from store.run_writer import PROGRESS

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


class Supervisor(Follower):
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
        *,
        niceness: int = 0,
    ) -> None:
        """
        Args:
            should_stop: asked often; True stops the run with grace, as SIGTERM does.
            niceness: how far the child stands back where cores are short (setpriority(2), 0 to 19).
        """
        self._niceness = niceness
        self.run_id = run_id
        self.run_dir = runs_directory(settings.store.path) / run_id
        super().__init__(
            self.run_dir.with_name(f"{run_id}.flow"), settings.run.grace_s, should_stop
        )
        self._kind = kind
        self._settings = settings
        self._listener = listener
        self._events: Tail | None = None
        self._progress = Tail(self.run_dir / PROGRESS, skip=True)
        self._last_event: dict[str, Any] = {}

    def run(self) -> RunEnd:
        """Follow the run to its end, whatever is raised in this thread meanwhile: an interruption is
        forwarded to the child, which gets its grace time.

        Raises:
            EvoloomError: the run could not start, or failed.
        """
        self._make_folder()
        self.follow()
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
        self._events = Tail(events)
        with self.log.open("ab") as log, blocked_signals():
            self._child = subprocess.Popen(
                child_command(order),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_child_environment(self._settings),
                start_new_session=True,
            )
            if self._niceness:
                os.setpriority(os.PRIO_PROCESS, self._child.pid, self._niceness)
        return True

    def _is_to_start_again(self) -> bool:
        if self.run_dir.exists() and read_state(self.run_dir).state in SETTLED_STATES:
            return False  # killed after it was done
        return super()._is_to_start_again()

    def _forget_child(self) -> None:
        code = self._child.returncode if self._child else 0
        self._child, self._events, self._last_event = None, None, {}
        with contextlib.suppress(Exception):  # a display that fails stops no run
            self._listener.message(
                f"the run's process was killed ({signal.Signals(-code).name}); starting it again"
            )

    def _tell(self) -> None:
        for event in self._events.read() if self._events else ():
            self._last_event = event
            if "message" in event:
                with contextlib.suppress(Exception):  # a display that fails stops no run
                    self._listener.message(event["message"])
        for record in self._progress.read():
            with contextlib.suppress(Exception):
                self._listener.progress(record)

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


def _child_environment(settings: Settings) -> dict[str, str]:
    environment = dict(os.environ)
    key = settings.teacher.api_key
    if key is not None:
        environment[KEY_VARIABLE] = key.get_secret_value()
    return environment


def _error(told: dict[str, Any] | None) -> EvoloomError | None:
    """An error as the child told it, of the class that has its exit code."""
    if told is None:
        return None
    kinds = {kind.exit_code: kind for kind in (UsageError, InterruptedRunError)}
    return kinds.get(told["exit_code"], EvoloomError)(told["message"])
