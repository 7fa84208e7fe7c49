"""A worker that takes its runs with it when it is told to end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.children import wait_until

# A worker leaves its runs alone; one of them notes each SIGTERM and ends a moment after it.
RUN = """
import os, signal, sys, time
def stop(*unused):
    open(sys.argv[1] + '.told', 'a').write('x')
    time.sleep(0.3)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[1], 'w').write(str(os.getpid()))
while True: time.sleep(0.05)
"""
WORKER = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, '-c', {RUN!r}, sys.argv[1]], start_new_session=True)
time.sleep(float(sys.argv[2]))
sys.exit(3)
"""
ATTEND = """
import sys
from flows.up.attending import attend
sys.exit(attend(sys.argv[1:], 5.0, lambda text: print(text, file=sys.stderr)))
"""


def start(file: Path, worker_lives_s: float) -> tuple[subprocess.Popen[bytes], int]:
    """An attended worker with one run; the run's pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", ATTEND, sys.executable, "-c", WORKER, str(file), str(worker_lives_s)]
    )
    wait_until(lambda: file.exists() and file.read_text(), "the run is under way")
    return process, int(file.read_text())


def lives(pid: int) -> bool:
    """Whether a process is there that nobody has only to take note of the end of."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker_and_its_runs_each_told_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    process, run = start(tmp_path / "run", 600.0)
    process.send_signal(number)
    assert process.wait() == 0
    assert not lives(run)
    assert (tmp_path / "run.told").read_text() == "x"


def test_a_worker_that_ends_by_itself_takes_its_runs_along(tmp_path: Path) -> None:
    process, run = start(tmp_path / "run", 1.0)
    assert process.wait() == 3
    assert not lives(run)
    assert (tmp_path / "run.told").read_text() == "x"
