"""The process that executes a run for a flow. It outlives whoever started it.

    python -m flows.child ORDER

It needs nothing of its parent: what it is to do is in the order file, secrets are in its
environment, what it has to say goes to files. Nobody's death breaks a pipe of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flows import logs
from pipeline.errors import EvoloomError
from pipeline.secret_files import find_secret
from store.checked_lines import write_atomically

KEY_VARIABLE = "EVOLOOM_TEACHER__API_KEY"
"""The environment variable by which a child gets the one secret there is among the settings."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What stops a run with grace. They are blocked when a child starts, until it listens."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a child is to do."""

    kind: str
    run_id: str
    settings: Mapping[str, Any]
    """As `pipeline.config.dump` gives them: every setting, no secret."""
    events: Path
    """The file that the child appends to, one JSON line for each thing it has to say: `message`,
    and at the end either `end` or `failed`."""
    lock: Path
    """The file that the child holds while it lives; its content is the process id."""

    def write(self, path: Path) -> None:
        """Write the order file."""
        value = {**asdict(self), "events": str(self.events), "lock": str(self.lock)}
        write_atomically(path, json.dumps(value, ensure_ascii=False).encode())

    @classmethod
    def read(cls, path: Path) -> Order:
        """Read an order file."""
        value = json.loads(path.read_text("utf-8"))
        return cls(**{**value, "events": Path(value["events"]), "lock": Path(value["lock"])})


class StoppedError(KeyboardInterrupt):
    """Raised by a signal while the run itself does not listen: before it began, or while it waits
    for another process. No `Exception`, so that nothing takes it for an error of its own."""


def main() -> int:
    """Execute the order named on the command line; returns the exit code of the run's end."""
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    order = Order.read(Path(sys.argv[1]))
    with order.events.open("a", encoding="utf-8", buffering=1) as events:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            with _held(order.lock):
                return _execute(order, events)
        except KeyboardInterrupt as exc:
            _say(events, end={"state": "interrupted", "reason": str(exc) or "SIGINT",
                              "error": None})  # fmt: skip
            return 130 if str(exc) == "SIGINT" else 75
        except EvoloomError as exc:
            logs.tell_error(str(exc), exit_code=exc.exit_code)
            _say(events, failed=_told(exc))
            return exc.exit_code
        except Exception as exc:  # noqa: BLE001  whatever it is, it is told
            logs.tell_exception(exc)  # goes to the log file; people get one line
            _say(events, failed={"message": f"{type(exc).__name__}: {exc}", "exit_code": 1,
                                 "unexpected": True})  # fmt: skip
            return 1


def _stop(number: int, _frame: FrameType | None) -> None:
    raise StoppedError(signal.Signals(number).name)


def _execute(order: Order, events: Any) -> int:
    from flows.execution import exit_code
    from flows.progress import Display
    from flows.runs import Listener, RunResult, resume_run, start_run
    from pipeline.config import Settings, flatten
    from store.run_directory import runs_directory
    from store.run_writer import RunExistsError

    settings = Settings(**with_key(order.settings))
    if settings.log.format == "json":
        logs.choose("json")
    # People are shown by whoever follows; the log file is for programs.
    display = Display(quiet=not logs.is_json())

    def on_message(text: str) -> None:
        display.message(text)
        _say(events, message=text)

    listener = Listener(display.show, on_message)
    store_path = settings.store.path

    def resume() -> RunResult:
        flags = dict(flatten(order.settings))
        return resume_run(order.run_id, store_path, flags, wait=True, listener=listener)

    if (runs_directory(store_path) / order.run_id / "manifest.json").exists():
        result = resume()
    else:
        try:
            result = start_run(order.kind, settings, order.run_id, listener)
        except RunExistsError:  # somebody else was quicker
            result = resume()
    error = result.end.error
    _say(events, end={"state": result.end.state, "reason": result.end.reason,
                      "error": _told(error) if error else None})  # fmt: skip
    return exit_code(result.end)


def with_key(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dumped settings with the teacher's key, if the environment has one or names its file.

    Raises:
        UsageError: the file cannot be read.
    """
    key = find_secret(KEY_VARIABLE)
    return {**settings, "teacher": {**settings["teacher"], **({"api_key": key} if key else {})}}


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock file; a second child of the same run waits for the first."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def _told(error: EvoloomError) -> dict[str, Any]:
    return {"message": str(error), "exit_code": error.exit_code}


def _say(events: Any, **event: Any) -> None:
    events.write(json.dumps(event, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
