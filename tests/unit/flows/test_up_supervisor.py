"""The supervisor of `evoloom up`, its services being a few lines each."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from flows.up import place as places
from flows.up import service as services
from flows.up.place import Place, RefusedStartError, StartFailedError
from flows.up.service import Life, Service
from flows.up.steward import is_to_go_on
from flows.up.supervisor import UpSupervisor
from pipeline.errors import UsageError
from pipeline.teacher.processes import UP_MARK

PATIENCE_S = 60.0
WELL = "open(name, 'w').write(str(os.getpid()))\n"
SLEEP = "while True: time.sleep(0.05)\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE_S", "_CHECK_STARTING_S", "_CHECK_HEALTHY_S"):
        monkeypatch.setattr(services, name, 0.05)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "up")
    place.make()
    return place


def make(place: Place, name: str, code: str, **options: object) -> Service:
    """A service that is well while the file of its name holds its pid."""
    file = place.path / name

    def is_healthy(life: Life) -> bool:
        return file.exists() and file.read_text() == str(life.pid)

    start = f"import os, signal, sys, time\nname = {str(file)!r}\n{code}"
    environment = {**os.environ, UP_MARK: place.mark}
    return Service(name, (sys.executable, "-c", start), environment, is_healthy, **options)  # type: ignore[arg-type]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "hangs"
        time.sleep(0.02)


def supervise(place: Place, script: Callable[[], None], *wanted: Service) -> list[str]:
    """Run services while a script, in a thread of its own, does things to them; then stop them.
    Returns what the supervisor has said."""
    said: list[str] = []
    failed: list[BaseException] = []

    def act() -> None:
        try:
            script()
        except BaseException as exc:
            failed.append(exc)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=act)
    supervisor = UpSupervisor(place, wanted, {}, 0.0, said.append)
    supervisor.run(thread.start)
    thread.join()
    if failed:
        raise failed[0]
    return said


def state_of(place: Place, name: str) -> tuple[str, int | None, int]:
    status = place.read_status()
    assert status is not None
    row = next(row for row in status.services if row.name == name)
    return row.state, row.pid, row.restarts


def alive(pid: int | None) -> bool:
    return pid is not None and psutil.pid_exists(pid)


class TestOrder:
    def test_each_waits_for_the_health_of_those_before_it_and_stops_before_them(
        self, place: Place
    ) -> None:
        slow = make(place, "first", "time.sleep(0.5)\n" + WELL + SLEEP)
        said = supervise(place, lambda: None, slow, make(place, "second", WELL + SLEEP))
        order = [line for line in said if line.endswith((": healthy", ": stopped"))]
        assert order == ["first: healthy", "second: healthy", "second: stopped", "first: stopped"]
        began = next(line for line in said if line.startswith("second: started"))
        assert said.index("first: healthy") < said.index(began)

    def test_what_needs_another_is_not_started_while_that_is_away(self, place: Place) -> None:
        once = "if os.path.exists(name + '.held'): sys.exit(1)\n" + WELL + SLEEP
        first = make(place, "first", once)
        second = make(place, "second", WELL + SLEEP, needs=("first",))
        held = place.path / "first.held"

        def script() -> None:
            held.touch()
            for name in ("first", "second"):
                pid = state_of(place, name)[1]
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
            until(lambda: state_of(place, "first")[2] >= 3)
            assert state_of(place, "second")[0] == "backing off"
            held.unlink()
            until(lambda: state_of(place, "second")[0] == "healthy")

        supervise(place, script, first, second)


class TestDeath:
    def test_what_dies_is_started_again(self, place: Place) -> None:
        def script() -> None:
            _, pid, _ = state_of(place, "one")
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            until(lambda: state_of(place, "one")[2] == 1 and state_of(place, "one")[0] == "healthy")
            assert state_of(place, "one")[1] != pid

        said = supervise(place, script, make(place, "one", WELL + SLEEP))
        assert any("one: was killed by SIGKILL;" in line for line in said)

    def test_what_hangs_is_killed_and_started_again(self, place: Place) -> None:
        code = WELL + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP

        def script() -> None:
            _, pid, _ = state_of(place, "one")
            (place.path / "one").unlink()
            until(lambda: state_of(place, "one")[2] == 1 and state_of(place, "one")[0] == "healthy")
            assert not alive(pid)

        service = make(place, "one", code, patience_s=0.3, grace_s=0.1)
        said = supervise(place, script, service)
        assert any("did not answer for 0.3 s and was killed" in line for line in said)

    def test_pauses_grow_and_have_an_end(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(services, "LONGEST_PAUSE_S", 0.1)
        code = "if os.path.exists(name): sys.exit(7)\n" + WELL + SLEEP

        def script() -> None:
            pid = state_of(place, "one")[1]
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            until(lambda: state_of(place, "one")[2] >= 4)

        said = supervise(place, script, make(place, "one", code))
        pauses = [line.rsplit(" ", 2)[1] for line in said if "started again in" in line]
        assert pauses[:4] == ["0.05", "0.1", "0.1", "0.1"]
        assert any("one: ended with code 7" in line for line in said)

    def test_services_end_with_a_supervisor_that_is_killed(self, place: Place) -> None:
        code = f"""
import pathlib, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from tests.unit.flows.test_up_supervisor import *
place = Place(pathlib.Path({str(place.path)!r}))
code = WELL + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n" + SLEEP
UpSupervisor(place, [make(place, "one", code)], {{}}, 0.0, print).run(lambda: None)
"""
        supervisor = subprocess.Popen([sys.executable, "-c", code])
        until(lambda: (status := place.read_status()) and status.state == "up")
        _, pid, _ = state_of(place, "one")
        assert alive(pid)
        supervisor.kill()
        supervisor.wait()
        until(lambda: not alive(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


class TestFullDisk:
    def test_a_status_that_cannot_be_written_ends_nothing(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pids: list[int] = []
        written = Place.write_status
        full = OSError(errno.ENOSPC, "No space left on device")

        def refuse(*unused: object) -> None:
            raise full

        def script() -> None:
            monkeypatch.setattr(Place, "write_status", refuse)
            pids.append(int((place.path / "a").read_text()))
            os.kill(pids[0], signal.SIGKILL)
            until(lambda: (place.path / "a").read_text() not in ("", str(pids[0])))
            pids.append(int((place.path / "a").read_text()))
            monkeypatch.setattr(Place, "write_status", written)
            until(lambda: state_of(place, "a")[1] == pids[1])

        said = supervise(place, script, make(place, "a", WELL + SLEEP))
        assert said[-1] == "everything is stopped"
        assert not any(map(alive, pids))


class TestFailedStart:
    def test_one_that_refuses_its_settings_ends_it_all(self, place: Place) -> None:
        first = make(place, "first", WELL + SLEEP)
        second = make(place, "second", "sys.exit('evoloom: no such model') if 0 else None\n"
                      "print('evoloom: no such model'); sys.exit(2)\n")  # fmt: skip
        with pytest.raises(RefusedStartError, match="second ended with code 2.*no such model"):
            UpSupervisor(place, [first, second], {}, 0.0, print).run(lambda: None)
        assert state_of(place, "first")[:2] == ("stopped", None)

    def test_one_that_never_comes_up(self, place: Place) -> None:
        service = make(place, "one", "sys.exit(1)")
        with pytest.raises(StartFailedError) as caught:
            UpSupervisor(place, [service], {}, 0.0, print).run(lambda: None)
        assert caught.value.exit_code == 1


class TestRunsInProgress:
    """A worker that ends leaves its flows alone: whoever is under one, or under nobody, is told here."""

    COUNTING = (
        "told = []\nsignal.signal(signal.SIGTERM, lambda number, frame: told.append(number))\n"
    )

    def test_each_process_is_told_once(self, place: Place) -> None:
        run = self.COUNTING + (
            "end = time.monotonic() + 60\n"
            "open(out + '.there', 'w').close()\n"
            "while not told and time.monotonic() < end: time.sleep(0.02)\n"
            "time.sleep(0.5)\n"
            "open(out, 'w').write(str(len(told)))\n"
        )
        files = {kind: place.path / kind for kind in ("under-worker", "orphan")}
        starts = {kind: f"import os, signal, sys, time\nout = {str(path)!r}\n{run}"
                  for kind, path in files.items()}  # fmt: skip
        worker = (
            "import subprocess\n"
            f"run = subprocess.Popen([sys.executable, '-c', {starts['under-worker']!r}])\n"
            "signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())\n"
            f"subprocess.Popen(['sh', '-c', '\"$0\" -c \"$1\" &', sys.executable, {starts['orphan']!r}])"
            ".wait()\n" + WELL + SLEEP
        )

        def script() -> None:
            until(lambda: all(Path(f"{path}.there").exists() for path in files.values()))

        supervise(place, script, make(place, "worker", worker))
        assert {kind: path.read_text() for kind, path in files.items()} == {
            "under-worker": "1", "orphan": "1",
        }  # fmt: skip


class TestPlace:
    def test_the_second_supervisor_is_told_of_the_first(self, place: Place) -> None:
        with place.held():
            assert place.supervisor() == os.getpid()
            with pytest.raises(UsageError, match=f"process {os.getpid()}"), place.held():
                pass
        assert place.supervisor() is None

    def test_a_free_port_is_kept_for_the_next_time(self, place: Place) -> None:
        port = place.port("prefect", 0, "--prefect-port")
        assert place.port("prefect", 0, "--prefect-port") == port
        assert place.port("api", 0, "--port") != port

    def test_the_address_that_the_last_up_told_is_its_own_while_nobody_answers(
        self, place: Place
    ) -> None:
        import socket

        port = place.port("prefect", 0, "--prefect-port")
        url = f"http://127.0.0.1:{port}/api"
        assert place.is_own(url, "prefect", 0)
        assert place.is_own(url, "prefect", port)
        assert not place.is_own(url, "prefect", port + 1)
        assert not place.is_own(f"http://127.0.0.1:{port}1/api", "prefect", 0)
        assert not place.is_own(url, "api", 0)
        with socket.socket() as somebody:
            somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            somebody.bind(("127.0.0.1", port))
            somebody.listen()
            assert not place.is_own(url, "prefect", 0)

    def test_a_port_that_is_taken_is_named(self, place: Place) -> None:
        import socket

        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(UsageError, match=f"--port: port {port}"):
                place.port("api", port, "--port")

    def test_a_log_is_cut_and_kept_once(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(places, "MOST_LOG_BYTES", 10)
        log = place.log("one")
        log.write_text("0123456789ab")
        places.bound(log)
        assert (log.read_text(), log.with_name("one.log.1").read_text()) == ("", "0123456789ab")


@pytest.mark.parametrize(
    ("state", "has_run", "expected"),
    [
        ("RUNNING", True, True), ("RUNNING", False, True), ("CRASHED", False, True),
        ("FAILED", True, True), ("FAILED", False, False), ("CANCELLED", True, False),
        ("CANCELLING", True, False), ("COMPLETED", True, False), ("SCHEDULED", True, False),
    ],
)  # fmt: skip
def test_which_flow_runs_go_on_when_nobody_executes_their_run(
    state: str, has_run: bool, expected: bool
) -> None:
    assert is_to_go_on({"id": "none", "state_type": state}, has_run=has_run) is expected
