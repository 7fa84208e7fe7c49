"""Executes the runs that were asked for over REST, as supervised processes of this machine.

The service's database says what is wanted; a run that has begun goes on when the service is stopped
or killed, and is supervised again by the next one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from flows import logs
from flows.child import with_key
from flows.runs import Listener
from flows.serving.commands import Publisher
from flows.serving.runs import is_open, with_seeds
from flows.supervision import StoppedEarlyError, Supervisor
from pipeline.config import Settings, dump, flatten, operational_keys
from pipeline.errors import EvoloomError
from store.run_directory import is_run, read_state, runs_directory
from store.run_writer import HeldRun, is_held
from store.service.database import ServiceDatabase
from store.service.run_requests import RunRequest, find_request, open_requests, update_request

CANCELLED = "by a request"


class Executor(Protocol):
    """Whatever executes queued requests."""

    name: str

    def start(self) -> None:
        """Take up what is open."""

    def wake(self) -> None:
        """Look at the requests: one is new, or is to be stopped."""

    def message(self, run_id: str) -> str | None:
        """What a run said last that is no progress, such as what its teacher is waiting for."""

    def problem(self) -> str | None:
        """Why no run can be executed at present, or None."""

    def close(self) -> None:
        """Stop looking; runs go on."""


class ProcessExecutor:
    """Supervises up to `at_once` run processes; further requests wait in the order they came."""

    name = "process"

    def __init__(self, settings: Settings, database: ServiceDatabase, publisher: Publisher) -> None:
        self._settings = settings
        self._database = database
        self._publisher = publisher
        self._at_once = settings.api.runs_at_once
        self._problem: str | None = None
        self._news = threading.Event()
        self._is_closed = False
        self._lock = threading.Lock()
        self._active: dict[str, threading.Event] = {}
        self._messages: dict[str, str] = {}
        self._thread = threading.Thread(target=self._loop, name="runs", daemon=True)

    def start(self) -> None:
        """Supervise again what an earlier service has started, then what is queued."""
        for request in open_requests(self._database):
            if request.state == "started":
                self._adopt(request)
        self._thread.start()
        self._news.set()

    def wake(self) -> None:
        """See `Executor`."""
        self._news.set()

    def message(self, run_id: str) -> str | None:
        """See `Executor`."""
        return self._messages.get(run_id)

    def problem(self) -> str | None:
        """See `Executor`."""
        return self._problem if self._thread.is_alive() else "the thread that starts runs has ended"

    def close(self) -> None:
        """Stop looking; runs go on in their processes."""
        self._is_closed = True
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _adopt(self, request: RunRequest) -> None:
        store_path = self._settings.store.path
        run_dir = runs_directory(store_path) / request.run_id
        if is_run(store_path, request.run_id) and not is_held(run_dir):
            state = read_state(run_dir).state
            if state not in ("queued", "running", "paused"):  # it ended while nobody looked
                self._note(request.run_id, "ended")
                return
        self._begin(request)

    def _loop(self) -> None:
        while True:
            # What could not be done, because the disk was full for example, is tried again.
            self._news.wait(_AGAIN_S if self._problem else None)
            self._news.clear()
            if self._is_closed:
                return
            self._look()

    def _look(self) -> None:
        problem: str | None = None
        try:
            for request in open_requests(self._database):
                try:
                    self._look_at(request)
                except Exception as exc:  # noqa: BLE001  one request keeps no other from its turn
                    problem = problem or f"run {request.run_id}: {_named(exc)}"
        except Exception as exc:  # noqa: BLE001  runs are started for as long as the service lives
            problem = _named(exc)
        if problem is not None and problem != self._problem:
            logs.tell(f"runs cannot be started or stopped: {problem}", "warning", logging.WARNING)
        self._problem = problem

    def _look_at(self, request: RunRequest) -> None:
        with self._lock:
            stop = self._active.get(request.run_id)
            has_room = len(self._active) < self._at_once
        if stop is not None:
            if request.cancel_requested:
                stop.set()
        elif request.cancel_requested:
            self._drop(request)
        elif has_room:
            self._begin(request)

    def _begin(self, request: RunRequest) -> None:
        self._note(request.run_id, "started")
        stop = threading.Event()
        if request.cancel_requested:
            stop.set()
        with self._lock:
            self._active[request.run_id] = stop
        threading.Thread(
            target=self._supervise, args=(request, stop), name=f"run {request.run_id}", daemon=True
        ).start()

    def _supervise(self, request: RunRequest, stop: threading.Event) -> None:
        run_id = request.run_id
        try:
            settings = settings_of(request, self._settings)

            def tell(text: str) -> None:
                self._messages[run_id] = text

            supervisor = Supervisor(
                request.method, run_id, settings, Listener(message=tell), stop.is_set,
                niceness=_NICENESS,
            )  # fmt: skip
            supervisor.run()
            self._ended(request)
        except StoppedEarlyError:
            self._note(run_id, "cancelled", CANCELLED)
        except EvoloomError as exc:
            has_run = is_run(self._settings.store.path, run_id)
            self._note(run_id, "ended" if has_run else "failed", str(exc))
        except Exception as exc:  # noqa: BLE001  whatever it is, the request has ended
            self._note(run_id, "failed", f"{type(exc).__name__}: {exc}")
        finally:
            with self._lock:
                self._active.pop(run_id, None)
            self._messages.pop(run_id, None)
            self._news.set()

    def _ended(self, request: RunRequest) -> None:
        store_path = self._settings.store.path
        mark_cancelled(self._database, request.run_id, store_path)
        self._note(request.run_id, "ended")
        if read_state(runs_directory(store_path) / request.run_id).ingest_pending:
            self._publisher.publish()

    def _drop(self, request: RunRequest) -> None:
        """A request that waits is cancelled: one to resume leaves the run as it is."""
        store_path = self._settings.store.path
        if is_run(store_path, request.run_id):
            mark_cancelled(self._database, request.run_id, store_path)
            self._note(request.run_id, "ended")
            self._publisher.publish()
        else:
            self._note(request.run_id, "cancelled", CANCELLED)

    def _note(self, run_id: str, state: str, reason: str | None = None) -> None:
        with self._database.transaction() as connection:
            update_request(connection, run_id, state=state, reason=reason, executor=self.name)  # type: ignore[arg-type]


def settings_of(request: RunRequest, own: Settings) -> Settings:
    """The settings that a request's run is executed with; its seeds are written where they name
    them.

    What makes the run what it is, and its caps, are the request's. The rest is the service's of now:
    its teacher or its store may have moved since.
    """
    values = with_key(request.settings)
    now = operational_keys()
    for key, value in flatten(dump(own)):
        if key in now and not is_open(key):
            *groups, name = key.split(".")
            part = values
            for group in groups:
                part[group] = dict(part.get(group) or {})
                part = part[group]
            part[name] = value
    settings = Settings(**values)
    if request.seeds is None:
        return settings
    folder = runs_directory(settings.store.path) / f"{request.run_id}.flow"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "seeds.jsonl"
    path.write_text(request.seeds, "utf-8")
    return with_seeds(settings, path)


def mark_cancelled(database: ServiceDatabase, run_id: str, store_path: Path) -> None:
    """The run's process only knows that it was stopped; that it was wanted is known here."""
    request = find_request(database, run_id)
    if request is None or not request.cancel_requested:
        return
    if read_state(runs_directory(store_path) / run_id).state != "interrupted":
        return
    # Taken by somebody who goes on with it already: then it is not cancelled.
    with contextlib.suppress(EvoloomError), HeldRun(store_path, run_id) as run:
        run.write_state("cancelled", CANCELLED)


def _named(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"


_AGAIN_S = 5.0
_NICENESS = 10
"""A run waits for its teacher most of the time; while it publishes, who reads goes first."""

MakeExecutor = Callable[[ServiceDatabase, Publisher], Executor]
"""From the service's database and its publisher to what executes runs."""
