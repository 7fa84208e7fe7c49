"""Kills a child of `tests.support.children` at a counted point of an export or a dataset version.

A point is a line of code of the modules that write, about to be run; a line of code is what a kill
from outside falls between (see `killed`).
"""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.util import Finalize
from pathlib import Path
from types import FrameType
from typing import Any

from store import checked_lines, datasets, new_run
from store.exporting import places, writing

_WRITERS = {module.__file__ for module in (checked_lines, datasets, new_run, places, writing)}


def install(kill_at: str, counted: str) -> None:
    """Send this process SIGKILL at a point; with `0` write how many there were into a file."""
    os.environ["EVOLOOM_STORE__ANALYSE"] = "false"
    count = 0

    def on_line(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count == int(kill_at):
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        return on_line if frame.f_code.co_filename in _WRITERS else None

    def finish() -> None:
        sys.settrace(None)
        Path(counted).write_text(str(count))

    Finalize(None, finish, exitpriority=1)  # a forked child does not run atexit's functions
    sys.settrace(on_call)
