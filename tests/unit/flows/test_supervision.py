"""The supervisor and its child, the child being a few lines that do what a child can do."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import following, supervision
from flows.child import Order, with_key
from flows.runs import Listener
from flows.supervision import CrashedChildError, StoppedEarlyError, Supervisor
from pipeline.config import Settings, dump, resolve
from pipeline.errors import EvoloomError, InterruptedRunError, UsageError
from store.run_directory import runs_directory

PREAMBLE = """
import fcntl, json, os, pathlib, signal, sys, time
order = json.loads(pathlib.Path(sys.argv[1]).read_text())
events = open(order["events"], "a", buffering=1)
say = lambda **event: events.write(json.dumps(event) + "\\n")
run_dir = pathlib.Path(order["lock"]).parent.with_suffix("")
lock = open(order["lock"], "a+")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.truncate(0); lock.write(str(os.getpid())); lock.flush()
def listen(on_signal):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
def end(state, reason=None, error=None):
    say(end={"state": state, "reason": reason, "error": error}); sys.exit()
"""
RUN_UNTIL_STOPPED = """
run_dir.mkdir()
listen(lambda number, frame: end("interrupted", signal.Signals(number).name))
say(message="running")
while True: time.sleep(0.01)
"""
Supervise = Callable[..., Supervisor]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return resolve(
        {"store.path": tmp_path / "s.duckdb", "run.grace_s": 0.0}, flags_only=True
    ).settings


@pytest.fixture
def supervise(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervise:
    """Makes a supervisor whose child is the code given."""

    def make(code: str, listener: Listener | None = None, **options: Any) -> Supervisor:
        script = tmp_path / "child.py"
        script.write_text(PREAMBLE + code)
        monkeypatch.setattr(
            supervision, "child_command", lambda order: [sys.executable, str(script), str(order)]
        )
        values = options.pop("settings", settings)
        return Supervisor("self-instruct", "night", values, listener or Listener(), **options)

    return make


def told(listener_raises: BaseException | None = None) -> tuple[Listener, list[Any], list[Any]]:
    """A listener that keeps what it is told, or raises at the first message, as a signal would."""
    records: list[Any] = []
    messages: list[Any] = []

    def on_message(text: str) -> None:
        messages.append(text)
        if listener_raises is not None and len(messages) == 1:
            raise listener_raises

    return Listener(records.append, on_message), records, messages


class TestFollowing:
    def test_messages_and_progress_are_passed_on(self, supervise: Supervise) -> None:
        listener, records, messages = told()
        end = supervise(
            """
run_dir.mkdir()
say(message="engine")
with open(run_dir / "progress.jsonl", "a") as progress:
    progress.write('{"accepted": 1}\\n{"accepted": 2}\\n{"torn'); progress.flush()
    progress.write('"\\n{"accepted": 3}\\n')
say(message="run night")
end("completed")
""",
            listener,
        ).run()
        assert end.state == "completed"
        assert messages == ["engine", "run night"]
        assert [record["accepted"] for record in records] == [1, 2, 3]

    def test_progress_of_before_is_not_told_again(
        self, supervise: Supervise, settings: Settings
    ) -> None:
        run_dir = runs_directory(settings.store.path) / "night"
        run_dir.mkdir(parents=True)
        (run_dir / "progress.jsonl").write_text('{"accepted": 1}\n')
        listener, records, _ = told()
        supervise(
            """
with open(run_dir / "progress.jsonl", "a") as progress:
    progress.write('{"accepted": 2}\\n')
end("completed")
""",
            listener,
        ).run()
        assert [record["accepted"] for record in records] == [2]

    def test_a_listener_that_fails_stops_nothing(self, supervise: Supervise) -> None:
        listener, _, messages = told(BrokenPipeError())
        supervisor = supervise('run_dir.mkdir(); say(message="a"); end("completed")', listener)
        assert supervisor.run().state == "completed"
        assert messages == ["a"]
        assert supervisor.caught is None

    def test_a_child_left_behind_is_followed_to_its_end_before_another_starts(
        self, supervise: Supervise, settings: Settings, tmp_path: Path
    ) -> None:
        lock = runs_directory(settings.store.path) / "night.flow" / "lock"
        lock.parent.mkdir(parents=True)
        seen = tmp_path / "seen"
        holder = subprocess.Popen(
            [sys.executable, "-c", f"""
import fcntl, pathlib, time
lock = open({str(lock)!r}, "w"); fcntl.flock(lock, fcntl.LOCK_EX); print(flush=True)
time.sleep(0.5); pathlib.Path({str(seen)!r}).write_text("ended")
"""],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert holder.stdout is not None
        holder.stdout.readline()
        end = supervise(
            f"run_dir.mkdir(); end('completed', pathlib.Path({str(seen)!r}).read_text())"
        ).run()
        holder.communicate()
        assert end.reason == "ended"


class TestEnds:
    @pytest.mark.parametrize(
        ("exit_code", "kind"), [(2, UsageError), (75, InterruptedRunError), (1, EvoloomError)]
    )
    def test_an_error_keeps_its_message_and_exit_code(
        self, supervise: Supervise, exit_code: int, kind: type[EvoloomError]
    ) -> None:
        child = f'say(failed={{"message": "no such model", "exit_code": {exit_code}}})'
        with pytest.raises(kind, match="no such model") as caught:
            supervise(child).run()
        assert caught.value.exit_code == exit_code

    def test_an_interruption_keeps_its_error(self, supervise: Supervise) -> None:
        error = '{"message": "the teacher is gone", "exit_code": 75}'
        end = supervise(f"run_dir.mkdir(); end('interrupted', 'outage', {error})").run()
        assert (end.state, end.reason) == ("interrupted", "outage")
        assert isinstance(end.error, InterruptedRunError)

    def test_a_crash_names_the_log_that_has_the_traceback(self, supervise: Supervise) -> None:
        supervisor = supervise("raise ValueError('never thought of')")
        with pytest.raises(CrashedChildError) as caught:
            supervisor.run()
        assert str(supervisor.log) in str(caught.value)
        assert "never thought of" in supervisor.log.read_text()

    @pytest.mark.parametrize(
        ("written", "expected"),
        [("running", ("interrupted", "killed")), ("completed", ("completed", None)),
         ("ceiling", ("ceiling", None))],
    )  # fmt: skip
    def test_a_killed_child_ended_as_its_run_directory_says(
        self, supervise: Supervise, written: str, expected: tuple[str, str | None]
    ) -> None:
        end = supervise(
            f"""
run_dir.mkdir()
(run_dir / "state.json").write_text('{{"state": "{written}"}}')
os.kill(os.getpid(), signal.SIGKILL)
"""
        ).run()
        assert (end.state, end.reason) == expected

    def test_no_file_of_the_ended_child_is_left_but_its_log(self, supervise: Supervise) -> None:
        supervisor = supervise("run_dir.mkdir(); end('completed')")
        supervisor.run()
        assert not list(supervisor.folder.glob("events-*"))


class TestStopping:
    @pytest.mark.parametrize(
        ("raised", "reason"), [(KeyboardInterrupt(), "SIGINT"), (SystemExit(), "SIGTERM")]
    )
    def test_what_is_raised_here_is_forwarded(
        self, supervise: Supervise, raised: BaseException, reason: str
    ) -> None:
        listener, _, _ = told(raised)
        supervisor = supervise(RUN_UNTIL_STOPPED, listener)
        end = supervisor.run()
        assert (end.state, end.reason) == ("interrupted", reason)
        assert supervisor.caught is raised

    def test_being_told_to_stop_is_sigterm_to_the_child(self, supervise: Supervise) -> None:
        listener, _, messages = told()
        supervisor = supervise(RUN_UNTIL_STOPPED, listener, should_stop=lambda: bool(messages))
        assert supervisor.run().reason == "SIGTERM"
        assert supervisor.caught is None

    def test_a_child_that_does_not_stop_is_killed_after_its_grace(
        self, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(following, "AFTER_GRACE_S", 0.1)
        listener, _, messages = told(KeyboardInterrupt())
        end = supervise(
            """
run_dir.mkdir()
listen(lambda number, frame: say(message=signal.Signals(number).name))
say(message="running")
while True: time.sleep(0.01)
""",
            listener,
        ).run()
        assert messages == ["running", "SIGINT", "SIGTERM"]
        assert (end.state, end.reason) == ("interrupted", "SIGINT")

    @pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (SystemExit(), 75)])
    def test_stopped_before_there_is_a_run(
        self, supervise: Supervise, raised: BaseException, code: int
    ) -> None:
        listener, _, _ = told(raised)
        with pytest.raises(StoppedEarlyError, match="nothing was asked") as caught:
            supervise(RUN_UNTIL_STOPPED.replace("run_dir.mkdir()", ""), listener).run()
        assert caught.value.exit_code == code

    def test_a_time_limit_stops_the_run_with_grace_and_is_raised(
        self, supervise: Supervise, settings: Settings
    ) -> None:
        messages: list[str] = []

        def limit() -> bool:
            if messages and len(messages) == 1:
                messages.append("limit")
                raise TimeoutError
            return False

        listener = Listener(message=messages.append)
        supervisor = supervise(RUN_UNTIL_STOPPED, listener, should_stop=limit)
        with pytest.raises(TimeoutError):
            supervisor.run()
        assert messages == ["running", "limit"]

    def test_a_child_left_behind_is_stopped_too_and_no_other_starts(
        self, supervise: Supervise, settings: Settings
    ) -> None:
        folder = runs_directory(settings.store.path) / "night.flow"
        folder.mkdir(parents=True)
        order = Order("x", "night", {}, folder / "e", folder / "lock")
        order.write(folder / "order.json")
        supervisor = supervise(RUN_UNTIL_STOPPED, should_stop=lambda: True)
        holder = subprocess.Popen(
            supervision.child_command(folder / "order.json"), start_new_session=True
        )
        while not (folder / "e").exists() or "running" not in (folder / "e").read_text():
            time.sleep(0.01)
        end = supervisor.run()
        assert holder.wait() == 0
        assert (end.state, end.reason) == ("interrupted", "SIGTERM")
        assert '"end"' in (folder / "e").read_text()


class TestWhatTheChildGets:
    def test_the_key_comes_by_environment_alone(self, supervise: Supervise, tmp_path: Path) -> None:
        values = {"store.path": tmp_path / "s.duckdb", "teacher.api_key": "sk-night"}
        supervisor = supervise(
            "run_dir.mkdir(); end('completed', os.environ['EVOLOOM_TEACHER__API_KEY'])",
            settings=resolve(values, flags_only=True).settings,
        )
        assert supervisor.run().reason == "sk-night"
        for path in supervisor.folder.iterdir():
            assert "sk-night" not in path.read_text()
        assert "EVOLOOM_TEACHER__API_KEY" not in os.environ

    def test_the_settings_are_exactly_those_resolved(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        given = resolve(
            {"run.target": 7, "novelty.against": ["a"], "store.path": tmp_path / "s.duckdb",
             "teacher.drop_parameters": ["seed"], "teacher.api_key": "sk-night"},
            flags_only=True,
        ).settings  # fmt: skip
        path = tmp_path / "order.json"
        Order("self-instruct", "night", dump(given), tmp_path / "e", tmp_path / "l").write(path)
        monkeypatch.setenv("EVOLOOM_TEACHER__API_KEY", "sk-night")
        monkeypatch.setenv("EVOLOOM_RUN__TARGET", "9")
        order = Order.read(path)
        assert Settings(**with_key(order.settings)) == given

    def test_it_is_a_session_of_its_own_without_our_terminal(self, supervise: Supervise) -> None:
        child = "run_dir.mkdir(); end('completed', str(os.getsid(0) == os.getpid()))"
        assert supervise(child).run().reason == "True"

    def test_a_folder_called_flows_in_the_working_directory_is_not_ours(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "flows").mkdir()
        (tmp_path / "flows" / "__init__.py").write_text("raise SystemExit('the wrong flows')")
        order = tmp_path / "order.json"
        order.write_text("no order")
        done = subprocess.run(
            supervision.child_command(order), cwd=tmp_path, capture_output=True, text=True,
            check=False, env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )  # fmt: skip
        assert "wrong flows" not in done.stderr
        assert json.JSONDecodeError.__name__ in done.stderr


def test_a_lock_that_nobody_holds_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not following.is_locked(path)
    with path.open("w") as file:
        assert not following.is_locked(path)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert following.is_locked(path)


class TestKilledByOthers:
    """SIGKILL from outside: the child is started again, and resumes."""

    COUNTED = """
import json
starts = run_dir.parent / "starts"
with starts.open("a") as file: file.write("x")
run_dir.mkdir(exist_ok=True)
(run_dir / "state.json").write_text('{"state": "running"}')
"""

    def test_the_run_goes_on(self, supervise: Supervise, tmp_path: Path) -> None:
        listener, _, messages = told()
        child = self.COUNTED + (
            "\nif len(starts.read_text()) < 3: os.kill(os.getpid(), signal.SIGKILL)\n"
            "end('completed')\n"
        )
        supervisor = supervise(child, listener)
        assert supervisor.run().state == "completed"
        assert (supervisor.run_dir.parent / "starts").read_text() == "xxx"
        assert sum("SIGKILL" in text and "again" in text for text in messages) == 2

    def test_not_for_ever(self, supervise: Supervise) -> None:
        supervisor = supervise(self.COUNTED + "\nos.kill(os.getpid(), signal.SIGKILL)\n")
        end = supervisor.run()
        assert (end.state, end.reason) == ("interrupted", "killed")
        starts = (supervisor.run_dir.parent / "starts").read_text()
        assert len(starts) == following.MOST_RESTARTS + 1

    def test_not_when_it_is_being_stopped(self, supervise: Supervise) -> None:
        listener, _, _ = told(KeyboardInterrupt())
        child = self.COUNTED + (
            "\nlisten(lambda number, frame: os.kill(os.getpid(), signal.SIGKILL))\n"
            "say(message='running')\nwhile True: time.sleep(0.01)\n"
        )
        supervisor = supervise(child, listener)
        assert supervisor.run().reason == "SIGINT"
        assert (supervisor.run_dir.parent / "starts").read_text() == "x"
