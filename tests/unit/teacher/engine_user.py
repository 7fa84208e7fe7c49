"""A user of the engine as a process of its own: leases, says so, and holds on until told.

Reads a JSON object on its command line: `settings`, and `arguments` of the fake engine. Prints
`progress LINE`, `ready PID URL` or `error TEXT`; ends when its standard input closes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.errors import EvoloomError
from pipeline.teacher.engine import lease_engine
from pipeline.teacher.engine_command import CommandFactory, EngineCommand
from pipeline.teacher.engine_settings import EngineSettings
from pipeline.teacher.engine_state import PORT

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


def fake_command(arguments: list[str]) -> CommandFactory:
    argv = (sys.executable, str(FAKE_ENGINE), *arguments, "--port", PORT)
    return lambda settings, report: EngineCommand(argv, {})


def main() -> None:
    task = json.loads(sys.argv[1])
    settings = EngineSettings(**task["settings"])
    try:
        with lease_engine(
            settings,
            on_progress=lambda line: print("progress", line, flush=True),
            command=fake_command(task["arguments"]),
        ) as engine:
            print("ready", engine.pid, engine.base_url, flush=True)
            sys.stdin.read()
    except EvoloomError as exc:
        print("error", exc, flush=True)


if __name__ == "__main__":
    main()
