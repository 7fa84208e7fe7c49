"""Who starts the engine, who shares it, and that it is gone when nobody uses it."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pipeline.errors import UsageError
from pipeline.teacher import processes
from pipeline.teacher.engine import (
    EngineError,
    engine_folder,
    engine_status,
    lease_engine,
)
from pipeline.teacher.engine_settings import EngineSettings
from pipeline.teacher.engine_state import EngineRecord
from tests.unit.teacher.engine_place import EnginePlace, ask, is_alive, until


class TestSharing:
    def test_engine_outlives_a_killed_user_and_ends_with_the_last(self, place: EnginePlace) -> None:
        first, second = place.user(), place.user()
        pid, url = first.ready()
        assert second.ready() == (pid, url)
        first.kill()
        until(lambda: place.status().users == 1)
        assert ask(url) == pid
        assert place.status().pid == pid
        second.finish()
        place.until_gone()
        assert place.starts() == [pid]
        assert engine_folder(place.settings).read_record() is None

    def test_who_comes_while_it_starts_waits_for_the_same(self, place: EnginePlace) -> None:
        first = place.user("--gated")
        until(place.starts)
        second = place.user("--gated")
        until(lambda: place.status().users == 2)
        assert place.status().state == "starting"
        (place.files / "gate").touch()
        assert first.ready() == second.ready()
        assert len(place.starts()) == 1

    def test_many_at_once_start_one(self, place: EnginePlace) -> None:
        users = [place.user() for _ in range(6)]
        assert len({user.ready() for user in users}) == 1
        assert len(place.starts()) == 1

    def test_who_comes_while_it_stops_gets_a_fresh_one(self, place: EnginePlace) -> None:
        first = place.user("--slow-stop")
        old, _ = first.ready()
        first.finish()
        until(lambda: place.status().state == "stopping")
        second = place.user("--slow-stop")
        assert second.next_line() == ("progress", "waiting for the previous engine to stop")
        (place.files / "let-go").touch()
        new, url = second.ready()
        assert ask(url) == new != old
        assert place.starts() == [old, new]
        assert not is_alive(old)

    def test_engines_of_other_settings_are_other_engines(self, place: EnginePlace) -> None:
        other = place.settings.model_copy(update={"max_model_len": 1024})
        with (
            lease_engine(place.settings, command=place.command()) as one,
            lease_engine(other, command=place.command()) as two,
        ):
            assert one.pid != two.pid
        until(lambda: engine_status(other).state == "stopped")
        place.until_gone()

    def test_waiting_longer_is_the_same_engine(self, place: EnginePlace) -> None:
        patient = place.settings.model_copy(update={"start_timeout_s": 7.0, "stop_grace_s": 1.0})
        assert engine_folder(patient) == engine_folder(place.settings)

    def test_engine_keeps_no_pipe_of_the_user_that_started_it(self, place: EnginePlace) -> None:
        first = place.user()
        first.ready()
        second = place.user()
        second.ready()
        first.kill()
        # Were the pipe open in watchdog or engine, this would wait for them.
        assert first.process.stdout
        assert first.process.stdout.read() == ""
        assert place.status().running


class TestDeath:
    def test_engine_dies_with_its_watchdog(self, place: EnginePlace) -> None:
        with lease_engine(place.settings, command=place.command()) as engine:
            os.kill(place.watchdog(), signal.SIGKILL)
            until(lambda: not is_alive(engine.pid))
            with pytest.raises(EngineError, match="ended with its watchdog"):
                engine.check()
            assert place.status().state == "stopped"
            with lease_engine(place.settings, command=place.command()) as fresh:
                assert fresh.pid != engine.pid
                fresh.check()
        place.until_gone()

    def test_remains_of_a_killed_watchdog_are_removed_by_the_next(self, place: EnginePlace) -> None:
        with lease_engine(place.settings, command=place.command("--stubborn")) as engine:
            child = int((place.files / "child").read_text())
            os.kill(place.watchdog(), signal.SIGKILL)
            until(lambda: place.status().state == "stopped")
            assert is_alive(engine.pid)
            assert is_alive(child)
        with lease_engine(place.settings, command=place.command()) as fresh:
            assert not is_alive(engine.pid)
            assert not is_alive(child)
            fresh.check()

    def test_processes_that_ignore_sigterm_or_leave_the_group_are_killed(
        self, place: EnginePlace
    ) -> None:
        settings = place.settings.model_copy(update={"stop_grace_s": 0.1})
        with lease_engine(settings, command=place.command("--stubborn")) as engine:
            child = int((place.files / "child").read_text())
            assert os.getpgid(child) != engine.pid
        place.until_gone()
        assert not is_alive(child)

    def test_engine_that_crashed_is_explained_and_started_anew(self, place: EnginePlace) -> None:
        with lease_engine(place.settings, command=place.command()) as engine:
            with engine.log_path.open("a") as log:
                log.write("(Worker pid=3) ERROR 11-21 04:40:32 [w.py:1] MemoryError: no more\n")
            os.kill(engine.pid, signal.SIGKILL)
            until(lambda: place.status().state == "failed")
            with pytest.raises(EngineError, match="SIGKILL while it was in use: MemoryError") as e:
                engine.check()
            assert str(engine.log_path) in str(e.value)
            assert place.alive() == set()
            with lease_engine(place.settings, command=place.command()) as fresh:
                assert ask(fresh.base_url) == fresh.pid
                assert "MemoryError" in engine.log_path.with_name("engine.log.1").read_text()

    def test_engine_that_was_killed_is_started_again_where_it_answered(
        self, place: EnginePlace
    ) -> None:
        pid, url = place.user().ready()
        os.kill(pid, signal.SIGKILL)
        place.until_gone()
        assert place.user().ready()[1] == url

    def test_port_that_is_taken_meanwhile_is_left_alone(self, place: EnginePlace) -> None:
        user = place.user()
        _, url = user.ready()
        user.finish()
        place.until_gone()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", urlsplit(url).port or 0))
            other.listen()
            assert place.user().ready()[1] != url

    def test_watchdog_told_to_stop_stops_the_engine(self, place: EnginePlace) -> None:
        with lease_engine(place.settings, command=place.command()) as engine:
            os.kill(place.watchdog(), signal.SIGTERM)
            until(lambda: place.status().state == "failed")
            assert not is_alive(engine.pid)
            with pytest.raises(EngineError, match="told to stop"):
                engine.check()


class TestFailingStart:
    def test_all_who_wait_are_told_why(self, place: EnginePlace) -> None:
        options = ("--fail", "ValueError: max_model_len (9) is too large")
        with (
            pytest.raises(EngineError) as failure,
            lease_engine(place.settings, command=place.command(*options)),
        ):
            pass
        message = str(failure.value)
        assert "exited with 1 while it was starting" in message
        assert "ValueError: max_model_len (9) is too large" in message
        assert str(engine_folder(place.settings).log) in message
        assert "\n" not in message
        assert place.status().state == "failed"
        with lease_engine(place.settings, command=place.command()) as engine:
            assert ask(engine.base_url) == engine.pid

    def test_program_that_is_missing(self, place: EnginePlace, tmp_path: Path) -> None:
        from pipeline.teacher.engine_command import EngineCommand

        missing = EngineCommand((str(tmp_path / "no-such-program"),), {})
        with (
            pytest.raises(EngineError, match=r"could not be started.*no-such-program"),
            lease_engine(place.settings, command=lambda settings, report: missing),
        ):
            pass

    def test_what_is_not_installed_leaves_nothing_behind(self, place: EnginePlace) -> None:
        def not_installed(settings: object, report: object) -> None:
            raise UsageError("install it")

        with pytest.raises(UsageError), lease_engine(place.settings, command=not_installed):  # type: ignore[arg-type]
            pass
        assert place.status().state == "stopped"

    def test_waiting_has_an_end(self, place: EnginePlace) -> None:
        hasty = place.settings.model_copy(update={"start_timeout_s": 0.3})
        with (
            pytest.raises(EngineError, match=r"after 0.3 s \(engine.start_timeout_s\)"),
            lease_engine(hasty, command=place.command("--gated")),
        ):
            pass
        place.until_gone()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_user_that_ends_while_it_waits_lets_go(
        self, place: EnginePlace, number: signal.Signals
    ) -> None:
        user = place.user("--gated")
        until(place.starts)
        user.process.send_signal(number)
        assert user.process.wait() != 0
        place.until_gone()


class TestStaleRecord:
    def record(self, place: EnginePlace, **changes: object) -> None:
        folder = engine_folder(place.settings)
        folder.path.mkdir(parents=True, exist_ok=True)
        start = processes.start_time(os.getpid())
        assert start
        record = EngineRecord(
            state="ready",
            launch_id="old",
            watchdog_pid=os.getpid(),
            watchdog_start=start,
            model="old",
            pid=os.getpid(),
            port=1,
        )
        folder.write_record(dataclasses.replace(record, **changes))  # type: ignore[arg-type]

    def test_pids_used_again_are_neither_believed_nor_killed(self, place: EnginePlace) -> None:
        bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.record(place, watchdog_pid=bystander.pid, pid=bystander.pid, watchdog_start=1)
        assert place.status().state == "stopped"
        with lease_engine(place.settings, command=place.command()) as engine:
            assert ask(engine.base_url) == engine.pid != bystander.pid
        place.until_gone()
        assert bystander.poll() is None
        bystander.communicate(b"\n")

    def test_record_without_the_lock_counts_for_nothing(self, place: EnginePlace) -> None:
        self.record(place)
        assert place.status().state == "stopped"
        with lease_engine(place.settings, command=place.command()) as engine:
            assert ask(engine.base_url) == engine.pid

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "ready"}', "\0"])
    def test_unreadable_record(self, place: EnginePlace, text: str) -> None:
        folder = engine_folder(place.settings)
        folder.path.mkdir(parents=True)
        folder.record.write_text(text)
        with lease_engine(place.settings, command=place.command()) as engine:
            assert ask(engine.base_url) == engine.pid


class TestStatus:
    def test_of_a_running_engine(self, place: EnginePlace) -> None:
        with lease_engine(place.settings, command=place.command()) as engine:
            status = place.status()
            assert status.running
            assert status.base_url == engine.base_url == f"http://127.0.0.1:{status.port}/v1"
            assert (status.pid, status.users, status.model) == (engine.pid, 1, engine.model)
            assert status.log_path == engine.log_path
            assert status.started_at

    def test_of_none(self, tmp_path: Path) -> None:
        settings = EngineSettings(cache_dir=tmp_path / "nowhere")
        assert engine_status(settings).state == "stopped"
        assert not (tmp_path / "nowhere").exists()
