"""The service that keeps the local engine running: it holds a lease and watches the engine.

    python -m flows.up.teacher STATE

It ends with code 1 when the engine has ended or hangs; the supervisor starts it again, and it the
engine, on the port that it had. Runs have leases of their own and wait until the engine is back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import httpx

from flows import logs
from flows.up.place import Place
from pipeline.config import load_settings
from pipeline.errors import EvoloomError
from pipeline.teacher.engine import Engine, EngineError, lease_engine
from pipeline.teacher.engine_state import write_json

_LOOK_EVERY_S = 2.0
HANGS_AFTER_S = 120.0
"""An engine under load may take long for an answer about its health."""


def main() -> int:
    """Hold the engine until it ends; returns the exit code."""
    place = Place(Path(sys.argv[1]))
    try:
        with lease_engine(load_settings().engine, logs.tell) as engine:
            _show_log(place, engine.log_path)
            write_json(place.teacher, {"pid": os.getpid(), "base_url": engine.base_url,
                                       "model": engine.model})  # fmt: skip
            logs.tell(f"{engine.model} answers at {engine.base_url}")
            _watch(engine)
    except EvoloomError as exc:
        logs.tell_error(str(exc))
        # A usage error is one of set-up; an engine that does not start may do so later.
        return 1 if isinstance(exc, EngineError) else exc.exit_code
    return 0


def _watch(engine: Engine) -> None:
    answered = time.monotonic()
    while True:
        engine.check()
        if answers(engine.base_url):
            answered = time.monotonic()
        elif time.monotonic() - answered > HANGS_AFTER_S:
            record = engine.folder.read_record()
            if record is not None and record.has_living_watchdog():
                os.kill(record.watchdog_pid, signal.SIGTERM)  # it ends the engine, and itself
            raise EngineError(f"the engine has not answered for {HANGS_AFTER_S:g} s and is stopped")
        time.sleep(_LOOK_EVERY_S)


def answers(base_url: str) -> bool:
    """Whether an engine says that it is well."""
    with contextlib.suppress(httpx.HTTPError):
        health = base_url.removesuffix("/v1") + "/health"
        return httpx.get(health, timeout=5.0).is_success
    return False


def _show_log(place: Place, log: Path) -> None:
    """A link to the engine's own log among the others; the engine may be shared with other users."""
    link = place.log("engine")
    link.unlink(missing_ok=True)
    link.symlink_to(log.absolute())


if __name__ == "__main__":
    sys.exit(main())
