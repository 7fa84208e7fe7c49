"""`evoloom up` under repeated SIGKILL at random moments. `make verify-operations`.

Each round has a run of its own, and kills one kind of process every few seconds while it lasts. Where a
supervisor remains, the run is to go on with nobody's help; where it is the supervisor that dies, each
death is followed by another `evoloom up`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import runs
from tests.support.prefect_server import wait_until
from tests.support.teachers import TeacherProcess, running_teacher
from tests.support.up import Up

pytestmark = pytest.mark.verify_operations
SLOW = ("--latency", "0.3", "1.0")
KILLS = 4
GOES_ON_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeacherProcess]:
    with running_teacher(tmp_path_factory.mktemp("teacher") / "log", *SLOW) as process:
        yield process


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, teacher: TeacherProcess) -> Iterator[Up]:
    store = tmp_path_factory.mktemp("up") / "evoloom.duckdb"
    up = Up(store, "--set", f"teacher.base_url={teacher.url}", "--set", "store.analyse=false")
    up.start()
    yield up
    assert up.evoloom("down").returncode == 0
    assert up.processes() == []
    up.clean()


def kill(up: Up, teacher: TeacherProcess, what: str, run_id: str) -> None:
    """Kill one, and see to it that there is one again where that is not the supervisor's."""
    if what == "supervisor":
        up.kill()
        up.start()
    elif what == "teacher":
        teacher.kill()
        time.sleep(random.uniform(0.5, 5.0))
        teacher.start(*SLOW)
    elif what == "writer":
        with contextlib.suppress(OSError, ValueError):  # between two lives
            os.kill(up.run_process(run_id), signal.SIGKILL)
    elif what == "flow and writer":
        for process in up.processes():
            line = " ".join(process.cmdline())
            if "prefect.engine" in line or "flows.child" in line:
                process.kill()
    else:
        up.kill_service(what)


@pytest.mark.parametrize(
    "what", ["worker-cpu", "prefect", "teacher", "writer", "flow and writer", "supervisor"]
)
def test_the_run_goes_on_and_makes_the_same_bytes(
    up: Up, teacher: TeacherProcess, undisturbed: Path, what: str
) -> None:
    wait_until(up.is_healthy, "what the last round has killed is there again")
    run_id = what.replace(" ", "-")
    asked = len(teacher.requests())
    flow_run = up.ask_for_run(teacher, run_id, concurrency=2)
    wait_until(lambda: len(teacher.requests()) >= asked + 3, "the run is under way")
    longest_s = 0.0
    for _ in range(KILLS):
        time.sleep(random.uniform(0.0, 4.0))
        if up.run_state(run_id) == "completed":
            break
        before = len(teacher.requests())
        killed_at = time.monotonic()
        kill(up, teacher, what, run_id)
        wait_until(
            lambda before=before: (
                len(teacher.requests()) > before + 2 or up.run_state(run_id) == "completed"
            ),
            f"the run goes on without {what}",
        )
        longest_s = max(longest_s, time.monotonic() - killed_at)
    wait_until(lambda: up.run_state(run_id) == "completed", "the run's end")
    assert runs.export_bytes(up.store, run_id) == runs.export_bytes(undisturbed)
    entries = runs.journal_of(up.store, run_id)
    assert len({entry.address for entry in entries}) == len(entries)
    wait_until(up.is_healthy, "everything is healthy again")
    wait_until(lambda: up.flow_run_state(flow_run) == "COMPLETED", "Prefect knows of it")
    print(f"{what}: the run went on after {longest_s:.1f} s at most")
