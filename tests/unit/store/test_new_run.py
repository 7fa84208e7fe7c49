"""A run directory written in one go: what a killed process leaves behind is removed by the next."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from store.new_run import NewRun
from store.run_directory import runs_directory

_MAKES_ONE_AND_WAITS = """
import sys, time
from pathlib import Path
from store.new_run import NewRun
with NewRun(Path(sys.argv[1]), "other"):
    print("made", flush=True)
    time.sleep(600)
"""


def _start(store: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _MAKES_ONE_AND_WAITS, str(store)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == "made\n"
    (made,) = runs_directory(store).glob(".other.*.tmp")
    long_ago = time.time() - 3600
    os.utime(made, (long_ago, long_ago))
    return process


def test_what_a_killed_process_was_making_is_removed_by_the_next(tmp_path: Path) -> None:
    store = tmp_path / "store.duckdb"
    process = _start(store)
    process.kill()
    process.wait()
    assert list(runs_directory(store).glob(".other.*"))

    with NewRun(store, "one"):
        assert not list(runs_directory(store).glob(".other.*"))


def test_what_a_living_process_is_making_stays(tmp_path: Path) -> None:
    store = tmp_path / "store.duckdb"
    process = _start(store)
    try:
        with NewRun(store, "one"):
            assert list(runs_directory(store).glob(".other.*"))
    finally:
        process.kill()
        process.wait()


def test_nothing_is_left_of_a_run_that_was_not_finished(tmp_path: Path) -> None:
    store = tmp_path / "store.duckdb"
    with NewRun(store, "one") as run:
        assert run.path.is_dir()
    assert not list(runs_directory(store).iterdir())
