"""The engine's one owner: starts it, and stops it when nobody uses it any more.

Started by `engine.lease_engine` as `python -m pipeline.teacher.watchdog FOLDER OWNER_FD`, with a
`Launch` as JSON on its standard input. It inherits the locked owner.lock, so that there is no
moment at which two could start. It keeps to the standard library: it lives as long as the engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pipeline.teacher import processes
from pipeline.teacher.engine_log import telling_line
from pipeline.teacher.engine_state import PORT, EngineFolder, EngineRecord
from pipeline.teacher.locks import open_lock, try_lock

POLL_S = 0.2
HEALTH_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Launch:
    """What the watchdog is to start."""

    launch_id: str
    argv: list[str]
    environment: dict[str, str]
    port: int
    """0: a free one."""
    model: str
    stop_grace_s: float


class Watchdog:
    """Starts one engine, watches it and its lease, and ends with it."""

    def __init__(self, folder: EngineFolder, launch: Launch) -> None:
        self._folder = folder
        self._launch = launch
        self._told_to_stop = False
        self._lease = open_lock(folder.lease)
        self._record = EngineRecord(
            state="starting",
            launch_id=launch.launch_id,
            watchdog_pid=os.getpid(),
            watchdog_start=processes.start_time(os.getpid()) or 0,
            model=launch.model,
        )

    def run(self) -> None:
        """Start the engine and return when it has ended, for whatever reason."""
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._say()
        # A watchdog that was killed may have left processes behind.
        processes.stop_marked(self._folder.mark, None, grace_s=0.0)
        try:
            port = self._launch.port or _free_port(self._folder.port_file)
            engine = self._start(port)
        except OSError as exc:
            self._say(state="failed", message=f"the engine could not be started: {exc}")
            return
        self._say(
            pid=engine.pid,
            port=port,
            started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        try:
            message = self._watch(engine, port)
        finally:
            processes.stop_marked(self._folder.mark, engine.pid, self._launch.stop_grace_s)
            engine.wait()
        if message:
            self._say(state="failed", message=message)
        else:
            self._folder.remove_record()

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        self._folder.rotate_log()
        self._folder.port_file.write_text(f"{port}\n")
        argv = [argument.replace(PORT, str(port)) for argument in self._launch.argv]
        environment = {
            **os.environ,
            **self._launch.environment,
            processes.MARK: self._folder.mark,
        }
        with self._folder.log.open("ab") as log:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                process_group=0,
                # Single-threaded, so this is safe between fork and exec.
                preexec_fn=processes.die_with_parent(signal.SIGTERM),
            )

    def _watch(self, engine: subprocess.Popen[bytes], port: int) -> str:
        """Return '' when nobody uses the engine any more, else what happened to it."""
        while True:
            if try_lock(self._lease, fcntl.LOCK_EX):
                # From here on new users wait; they get a fresh engine when we are gone.
                self._say(state="stopping")
                return ""
            if self._told_to_stop:
                return "its watchdog was told to stop (SIGTERM)"
            if (code := engine.poll()) is not None:
                return self._explain_exit(code)
            if self._record.state == "starting" and _answers(port):
                self._say(state="ready")
            time.sleep(POLL_S)

    def _explain_exit(self, code: int) -> str:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        when = (
            "while it was starting" if self._record.state == "starting" else "while it was in use"
        )
        line = telling_line(self._folder.log)
        return f"the engine {how} {when}" + (f": {line}" if line else "")

    def _say(self, **changes: object) -> None:
        self._record = dataclasses.replace(self._record, **changes)  # type: ignore[arg-type]
        self._folder.write_record(self._record)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._told_to_stop = True


def _free_port(last_file: Path) -> int:
    """The port of the last time if it is free: whoever waits for an engine that was killed finds the
    next one there."""
    with contextlib.suppress(OSError, ValueError, OverflowError), socket.socket() as probe:
        # Connections that the killed one had must not keep its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        last = int(last_file.read_text())
        probe.bind(("127.0.0.1", last))
        return last
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HEALTH_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def main(arguments: list[str]) -> None:
    """Detach from the process that started us, then watch."""
    folder, owner = EngineFolder(Path(arguments[0])), int(arguments[1])
    launch = Launch(**json.loads(sys.stdin.read()))
    # Whoever started us reaps this process at once and keeps no child.
    if os.fork():
        os._exit(0)
    # Only we hold the lock: the engine must not inherit it.
    os.set_inheritable(owner, False)
    Watchdog(folder, launch).run()


if __name__ == "__main__":
    main(sys.argv[1:])
