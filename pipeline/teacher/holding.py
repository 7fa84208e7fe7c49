"""Keeping the engine running between commands: `evoloom teacher start` and `stop`."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass

from pipeline.teacher.engine import (
    Engine,
    EngineStatus,
    Progress,
    engine_folder,
    engine_status,
    lease_engine,
    run_detached,
)
from pipeline.teacher.engine_command import CommandFactory, vllm_command
from pipeline.teacher.engine_settings import EngineSettings
from pipeline.teacher.holder import stop_holders
from pipeline.teacher.locks import POLL_S, is_locked, open_lock, try_lock

HOLDER_STOP_S = 5.0
# Beyond the grace time of the engine's own processes.
EXTRA_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Held:
    """An engine that is kept running."""

    engine: Engine
    was_held: bool
    """Whether it was kept running before."""


@dataclass(frozen=True, slots=True)
class Released:
    """What `stop` found and left."""

    was_held: bool
    status: EngineStatus
    """Of the engine with the given settings, afterwards."""


def hold_engine(
    settings: EngineSettings,
    on_progress: Progress | None = None,
    *,
    command: CommandFactory = vllm_command,
) -> Held:
    """Start the engine if need be and keep it running until `release_engine`.

    Raises:
        EngineError, UsageError: as `lease_engine` does.
    """
    folder = engine_folder(settings)
    with lease_engine(settings, on_progress, command=command) as engine:
        lock = open_lock(folder.holder_lock)
        try:
            free = try_lock(lock, fcntl.LOCK_EX)
            if free:
                folder.holder_record.unlink(missing_ok=True)
                run_detached(
                    "pipeline.teacher.holder",
                    [str(folder.path)],
                    descriptors=(engine.lease_fd, lock),
                    log=folder.path / "holder.log",
                )
        finally:
            os.close(lock)
    return Held(engine, was_held=not free)


def release_engine(settings: EngineSettings) -> Released:
    """Undo every `hold_engine` below the same state folder, and wait until the engines are gone.

    An engine that somebody else uses goes on; so does nothing else.
    """
    folders = stop_holders(settings.resolved_state_dir(), HOLDER_STOP_S)
    deadline = time.monotonic() + settings.stop_grace_s + EXTRA_STOP_S
    for folder in folders:
        while is_locked(folder.owner) and time.monotonic() < deadline:
            status = engine_status(settings)
            if engine_folder(settings) == folder and status.users:
                break
            time.sleep(POLL_S)
    return Released(was_held=bool(folders), status=engine_status(settings))
