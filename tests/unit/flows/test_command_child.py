"""Commands in a child process: the child is a few lines that do what a command can do."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import command_child, following
from flows.command_child import CommandFollower
from flows.runs import Listener
from pipeline.errors import EvoloomError, InterruptedRunError, UsageError

WAIT = """
import signal, sys, time
def stop(number, frame):
    print("evoloom: stopped by", signal.Signals(number).name, file=sys.stderr); sys.exit(75)
signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGINT, stop)
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
print("waiting", file=sys.stderr, flush=True)
while True: time.sleep(0.01)
"""
Follow = Callable[..., CommandFollower]


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Follow:
    """Makes a follower whose child is the code given."""

    def make(code: str, listener: Listener | None = None, **options: Any) -> CommandFollower:
        command = [sys.executable, "-c", code]
        monkeypatch.setattr(command_child, "evoloom_command", lambda arguments: command)
        return CommandFollower(
            ["x"], tmp_path / "c.flow", listener or Listener(), grace_s=0.0, **options
        )

    return make


def test_result_messages_and_progress(follow: Follow, tmp_path: Path) -> None:
    records: list[Any] = []
    messages: list[str] = []
    progress = tmp_path / "run" / "progress.jsonl"
    code = f"""
import json, pathlib, sys
path = pathlib.Path({str(progress)!r}); path.parent.mkdir()
path.write_text('{{"share_done": 0.5}}\\n{{"share_done": 1.0}}\\n{{"torn')
print("starting", file=sys.stderr)
print(json.dumps({{"made": "x@1"}}))
"""
    end = follow(code, Listener(records.append, messages.append), progress=progress).run()
    assert (end.exit_code, end.result, end.error()) == (0, {"made": "x@1"}, None)
    assert messages == ["starting"]
    assert [record["share_done"] for record in records] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("sys.exit(2)", UsageError, "no such file"),
        ("sys.exit(1)", EvoloomError, "no such file"),
        ("sys.exit(75)", InterruptedRunError, "no such file"),
        ("os.kill(os.getpid(), 9)", EvoloomError, "code -9"),
    ],
)
def test_exit_codes_become_errors(
    follow: Follow, code: str, kind: type[EvoloomError], said: str
) -> None:
    script = f"import os, sys; print('evoloom: no such file', file=sys.stderr, flush=True); {code}"
    error = follow(script).run().error()
    assert type(error) is kind
    assert said in str(error)


def test_told_to_stop_it_gets_its_grace_and_can_be_resumed(follow: Follow) -> None:
    stop = threading.Event()
    follower = follow(WAIT, Listener(message=lambda text: stop.set()), should_stop=stop.is_set)
    end = follower.run()
    assert (end.exit_code, end.is_interrupted) == (75, True)
    assert "stopped by SIGTERM" in str(end.error())


def test_one_that_does_not_listen_is_killed(
    follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "AFTER_GRACE_S", 0.2)
    stop = threading.Event()
    code = WAIT.replace("sys.exit(75)", "pass")
    end = follow(code, Listener(message=lambda t: stop.set()), should_stop=stop.is_set).run()
    assert (end.exit_code, end.is_interrupted) == (-signal.SIGKILL, True)


def test_what_is_raised_here_is_forwarded_and_kept(follow: Follow) -> None:
    class Signal(BaseException):
        pass

    def on_message(text: str) -> None:
        if text == "waiting":
            raise Signal

    follower = follow(WAIT, Listener(message=on_message))
    end = follower.run()
    assert end.is_interrupted
    assert isinstance(follower.caught, Signal)


def test_a_child_left_behind_is_waited_for(follow: Follow, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    code = f"""
import time
with open({str(marks)!r}, "a") as f: f.write("in\\n")
time.sleep(1)
with open({str(marks)!r}, "a") as f: f.write("out\\n")
"""
    # The first follower's process dies without a word; its child goes on and keeps the lock.
    script = f"""
import os, pathlib, sys, threading
from flows import command_child
from flows.runs import Listener
command_child.evoloom_command = lambda arguments: [sys.executable, "-c", {code!r}]
folder = pathlib.Path({str(tmp_path / "c.flow")!r})
f = command_child.CommandFollower(["x"], folder, Listener())
threading.Thread(target=f.run, daemon=True).start()
while f._child is None: pass
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    end = follow(code).run()
    assert end.exit_code == 0
    assert marks.read_text().split() == ["in", "out", "in", "out"]


def test_the_command_line_is_what_is_started(tmp_path: Path) -> None:
    follower = CommandFollower(
        ["datasets", "list", "--store", str(tmp_path / "s.duckdb"), "--json"],
        tmp_path / "c.flow",
        Listener(),
    )
    end = follower.run()
    assert (end.exit_code, end.result) == (0, None)
    bad = CommandFollower(["datasets", "show", "x"], tmp_path / "d.flow", Listener()).run()
    assert isinstance(bad.error(), UsageError)
    assert "no dataset version 'x'" in str(bad.error())
    done = subprocess.run(
        command_child.evoloom_command(["--help"]), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "datasets" in done.stdout


def test_a_place_that_prefect_took_back_stops_nothing(follow: Follow) -> None:
    """Prefect raises this in the thread when its server no longer knows the flow run's lease."""
    raised: list[bool] = []

    def lose_the_lease() -> bool:
        if not raised:
            raised.append(True)
            raise asyncio.CancelledError
        return False

    follower = follow("import time; time.sleep(0.5); print('{}')", should_stop=lose_the_lease)
    end = follower.run()
    assert raised
    assert (end.exit_code, end.was_stopped, follower.caught) == (0, False, None)


def test_a_child_that_cannot_be_started_is_an_error_and_no_endless_loop(
    follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = follow("")
    monkeypatch.setattr(command_child, "evoloom_command", lambda arguments: ["/no/such/program"])
    with pytest.raises(FileNotFoundError):
        follower.run()
