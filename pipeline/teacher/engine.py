"""Leases on the local engine.

    with lease_engine(settings) as engine:
        OpenAI(base_url=engine.base_url, api_key="-").completions.create(model=engine.model, ...)

All who lease an engine of the same settings share one. It is stopped when the last lease ends,
also when its holder is killed: a lease is a shared `flock`, which the kernel frees. The engine
belongs to the `watchdog`, not to whoever happened to start it.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import EvoloomError
from pipeline.teacher import processes
from pipeline.teacher.engine_command import CommandFactory, vllm_command
from pipeline.teacher.engine_log import telling_line
from pipeline.teacher.engine_settings import EngineSettings
from pipeline.teacher.engine_state import EngineFolder, EngineRecord
from pipeline.teacher.locks import (
    POLL_S,
    count_shared_holders,
    is_locked,
    open_lock,
    try_lock,
)
from pipeline.teacher.watchdog import Launch

Progress = Callable[[str], None]

REPORT_INTERVAL_S = 10.0
# A watchdog can vanish without a word only by SIGKILL; once is bad luck, thrice is a fault.
MAX_LOST_WATCHDOGS = 3
# What tells one engine from another. All else is about waiting for it.
_NOT_IN_KEY = {"cache_dir", "state_dir", "start_timeout_s", "stop_grace_s"}


class EngineError(EvoloomError):
    """Raised when the local engine does not start, or has ended while it was in use."""

    exit_code = 2  # A teacher that fails the pre-flight (DESIGN.md, exit codes).


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers, for as long as the lease lasts."""

    base_url: str
    """Address for OpenAI clients, such as `http://127.0.0.1:8000/v1`."""
    model: str
    """The name it serves the model under."""
    pid: int
    """Its first process."""
    log_path: Path
    folder: EngineFolder
    launch_id: str
    lease_fd: int
    """Descriptor of the locked lease file."""

    def check(self) -> None:
        """Raises:
        EngineError: the engine has ended; the message says why. Lease again for a fresh one.
        """
        record = self.folder.read_record()
        same = record is not None and record.launch_id == self.launch_id
        if record and same and record.state == "failed":
            raise EngineError(_with_log(record.message, self.folder))
        if not (record and same and record.has_living_watchdog()):
            raise EngineError(_with_log("the engine has ended with its watchdog", self.folder))


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What can be told of an engine from outside."""

    state: Literal["stopped", "starting", "running", "stopping", "failed"]
    model: str
    log_path: Path
    pid: int | None = None
    port: int | None = None
    base_url: str | None = None
    started_at: str | None = None
    """UTC, ISO 8601."""
    users: int | None = None
    """How many hold a lease; None where that cannot be told."""
    message: str = ""
    """Why it failed."""

    @property
    def running(self) -> bool:
        """Whether it answers."""
        return self.state == "running"


@contextmanager
def lease_engine(
    settings: EngineSettings,
    on_progress: Progress | None = None,
    *,
    command: CommandFactory = vllm_command,
) -> Iterator[Engine]:
    """Use the local engine, started first if need be; it runs at least until the block ends.

    The lease must not be carried into a process forked (without exec) inside the block: it would
    last as long as that process.

    Args:
        settings: which engine, and where its state lies.
        on_progress: called with one line whenever there is something to tell while it waits.
        command: what to start; tests start something smaller.

    Raises:
        EngineError: it did not start, or not within `start_timeout_s`; the message holds the
            telling line of its log and the log's path.
        UsageError: what it needs is not installed.
    """
    folder = engine_folder(settings)
    lease = open_lock(folder.lease)
    try:
        waiting = _Waiting(settings, on_progress or (lambda line: None))
        while not try_lock(lease, fcntl.LOCK_SH):
            waiting.tick("waiting for the previous engine to stop")
        yield _wait_until_ready(settings, folder, lease, command, waiting)
    finally:
        os.close(lease)


def engine_folder(settings: EngineSettings) -> EngineFolder:
    """Where the state of the engine with these settings lies."""
    values = settings.model_dump(mode="json", exclude=_NOT_IN_KEY)
    if settings.model_path is not None:
        values["model_path"] = str(settings.model_path.resolve())
    key = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
    return EngineFolder(settings.resolved_state_dir().absolute() / key)


def engine_status(settings: EngineSettings) -> EngineStatus:
    """The state of the engine with these settings; starts and disturbs nothing."""
    folder = engine_folder(settings)
    record = folder.read_record()
    nothing = EngineStatus(state="stopped", model=settings.model, log_path=folder.log)
    if not is_locked(folder.owner):
        if record is not None and record.state == "failed":
            return dataclasses.replace(nothing, state="failed", message=record.message)
        return nothing
    users = count_shared_holders(folder.lease)
    if record is None or not record.has_living_watchdog():
        return dataclasses.replace(nothing, state="starting", users=users)
    return EngineStatus(
        state="running" if record.state == "ready" else record.state,
        model=record.model,
        log_path=folder.log,
        pid=record.pid,
        port=record.port,
        base_url=record.base_url,
        started_at=record.started_at or None,
        users=users,
        message=record.message,
    )


class _Waiting:
    """Sleeps between two looks, reports, and gives up after `start_timeout_s`."""

    def __init__(self, settings: EngineSettings, report: Progress) -> None:
        self._began = self._reported = time.monotonic()
        self._limit_s = settings.start_timeout_s
        self._last = ""
        self.report = report

    def tick(self, line: str) -> None:
        now = time.monotonic()
        if now - self._began > self._limit_s:
            raise EngineError(f"gave up after {self._limit_s:g} s (engine.start_timeout_s) {line}")
        if line != self._last or now - self._reported >= REPORT_INTERVAL_S:
            self.report(f"{line} ({now - self._began:.0f} s)" if line == self._last else line)
            self._last, self._reported = line, now
        time.sleep(POLL_S)


def _wait_until_ready(
    settings: EngineSettings,
    folder: EngineFolder,
    lease: int,
    command: CommandFactory,
    waiting: _Waiting,
) -> Engine:
    awaited = ""
    lost = 0
    while True:
        owner = open_lock(folder.owner)
        try:
            if try_lock(owner, fcntl.LOCK_EX):
                # No watchdog lives, whatever engine.json says.
                record = folder.read_record()
                if record and record.launch_id == awaited and record.state == "failed":
                    raise EngineError(_with_log(record.message, folder))
                lost += bool(awaited)
                if lost > MAX_LOST_WATCHDOGS:
                    raise EngineError(_with_log("the engine's watchdog was killed again", folder))
                awaited = _start_watchdog(settings, folder, owner, command, waiting.report)
        finally:
            os.close(owner)
        # The owner's lock may be held by a process about to start a watchdog, and the record be
        # of a dead one: hence the second look at the watchdog.
        record = folder.read_record()
        if record and record.has_living_watchdog():
            if record.state == "ready" and record.pid and record.base_url:
                return _engine(folder, record, record.pid, record.base_url, lease)
            if record.state == "starting":  # Not one that failed before we came.
                awaited = record.launch_id
        try:
            waiting.tick("waiting for the engine to start")
        except EngineError as exc:
            raise EngineError(_with_log(f"{exc}: {telling_line(folder.log)}", folder)) from None


def _engine(
    folder: EngineFolder, record: EngineRecord, pid: int, base_url: str, lease: int
) -> Engine:
    return Engine(
        base_url=base_url,
        model=record.model,
        pid=pid,
        log_path=folder.log,
        folder=folder,
        launch_id=record.launch_id,
        lease_fd=lease,
    )


def _start_watchdog(
    settings: EngineSettings,
    folder: EngineFolder,
    owner: int,
    command: CommandFactory,
    report: Progress,
) -> str:
    """Start a watchdog that inherits the locked owner.lock; returns the name of the launch."""
    what = command(settings, report)
    launch = Launch(
        launch_id=uuid.uuid4().hex,
        argv=list(what.argv),
        environment=dict(what.environment),
        port=settings.port,
        model=settings.model,
        stop_grace_s=settings.stop_grace_s,
    )
    folder.remove_record()
    run_detached(
        "pipeline.teacher.watchdog",
        [str(folder.path), str(owner)],
        descriptors=(owner,),
        log=folder.watchdog_log,
        standard_input=json.dumps(dataclasses.asdict(launch)),
    )
    return launch.launch_id


def run_detached(
    module: str,
    arguments: list[str],
    *,
    descriptors: tuple[int, ...],
    log: Path,
    standard_input: str = "",
) -> None:
    """Run a module of ours that detaches itself, in a session of its own; wait until it has.

    Raises:
        EngineError: it failed before that.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {key: value for key, value in os.environ.items() if key not in processes.OWNERS}
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments],
            input=standard_input.encode(),
            stdout=output,
            stderr=output,
            env={**environment, "PYTHONPATH": path},
            pass_fds=descriptors,
            start_new_session=True,
            check=False,
        )
    if done.returncode:
        raise EngineError(f"{module} failed: {telling_line(log)} (log: {log})")


def _with_log(message: str, folder: EngineFolder) -> str:
    return f"{message} (log: {folder.log})"
