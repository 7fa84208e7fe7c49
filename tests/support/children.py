"""The command line in processes of their own, forked from a server that has imported everything.

A process started from nothing needs seconds to import; tests that kill runs start dozens.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_PATIENCE_S = 120.0
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.preloaded"])


@dataclass
class Child:
    """A process that runs `evoloom` with arguments, its output in files."""

    process: BaseProcess
    out: Path
    err: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    def wait(self) -> int:
        """Its exit code; minus the signal's number if one ended it."""
        self.process.join(_PATIENCE_S)
        assert self.process.exitcode is not None, f"it does not end; {self.errors()}"
        return self.process.exitcode

    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.is_alive()

    def output(self) -> str:
        """What it printed."""
        return self.out.read_text()

    def errors(self) -> str:
        """What it printed on standard error."""
        return self.err.read_text() if self.err.exists() else ""

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


def start_child(folder: Path, *arguments: str | Path, patch: tuple[str, ...] = ()) -> Child:
    """Start `evoloom ARGUMENTS`.

    Args:
        folder: where its output goes.
        patch: a function, as `module`, `name`, and its arguments, called before the command line.
    """
    number = len(list(folder.glob("child-*.out")))
    out, err = folder / f"child-{number}.out", folder / f"child-{number}.err"
    out.touch()
    process = _context.Process(
        target=_main, args=([str(part) for part in arguments], str(out), str(err), patch)
    )
    process.start()
    return Child(process, out, err)


def run_child(folder: Path, *arguments: str | Path, patch: tuple[str, ...] = ()) -> Child:
    """Run `evoloom ARGUMENTS` to its end."""
    child = start_child(folder, *arguments, patch=patch)
    child.wait()
    return child


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Return when something has happened; a test waits for events, never for a time."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it never came: {what}"
        time.sleep(0.01)


def _main(arguments: list[str], out: str, err: str, patch: tuple[str, ...]) -> None:
    for path, number in ((out, 1), (err, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    sys.argv = ["evoloom", *arguments]
    if patch:
        module, name, *values = patch
        getattr(importlib.import_module(module), name)(*values)
    from flows.cli import main

    main()
