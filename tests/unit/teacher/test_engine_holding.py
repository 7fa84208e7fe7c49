"""`evoloom teacher start` and `stop`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from pipeline.teacher import holding
from pipeline.teacher.engine import engine_folder, lease_engine
from pipeline.teacher.holder import is_held
from pipeline.teacher.locks import hold_exclusively
from tests.unit.teacher.engine_place import EnginePlace, ask, until


@pytest.fixture
def held(place: EnginePlace) -> Iterator[holding.Held]:
    yield holding.hold_engine(place.settings, command=place.command())
    holding.release_engine(place.settings)


class TestStart:
    def test_engine_goes_on_without_us(self, place: EnginePlace, held: holding.Held) -> None:
        assert not held.was_held
        assert ask(held.engine.base_url) == held.engine.pid
        status = place.status()
        assert (status.running, status.users) == (True, 1)

    def test_second_start_finds_it(self, place: EnginePlace, held: holding.Held) -> None:
        again = holding.hold_engine(place.settings, command=place.command())
        assert again.was_held
        assert again.engine.pid == held.engine.pid
        assert place.status().users == 1

    def test_runs_share_the_engine_that_is_kept(
        self, place: EnginePlace, held: holding.Held
    ) -> None:
        user = place.user()
        assert user.ready() == (held.engine.pid, held.engine.base_url)
        user.finish()
        assert place.status().running

    def test_start_after_a_crash_starts_anew(self, place: EnginePlace, held: holding.Held) -> None:
        os.kill(held.engine.pid, 9)
        until(lambda: place.status().state == "failed")
        again = holding.hold_engine(place.settings, command=place.command())
        assert again.was_held
        assert ask(again.engine.base_url) == again.engine.pid != held.engine.pid


class TestStop:
    def test_engine_is_gone(self, place: EnginePlace, held: holding.Held) -> None:
        released = holding.release_engine(place.settings)
        assert released.was_held
        assert released.status.state == "stopped"
        assert place.alive() == set()
        assert not is_held(engine_folder(place.settings))

    def test_nothing_to_stop(self, place: EnginePlace) -> None:
        released = holding.release_engine(place.settings)
        assert not released.was_held
        assert released.status.state == "stopped"

    def test_engine_that_a_run_uses_goes_on(self, place: EnginePlace, held: holding.Held) -> None:
        with lease_engine(place.settings, command=place.command()) as engine:
            released = holding.release_engine(place.settings)
            assert released.was_held
            assert released.status.users == 1
            assert ask(engine.base_url) == held.engine.pid
        place.until_gone()

    def test_settings_that_changed_since_the_start(
        self, place: EnginePlace, held: holding.Held
    ) -> None:
        changed = place.settings.model_copy(update={"max_model_len": 1024})
        assert holding.release_engine(changed).was_held
        place.until_gone()

    def test_pid_used_again_is_left_alone(
        self, place: EnginePlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lock is held by a process whose record is still the one of an earlier holder."""
        monkeypatch.setattr(holding, "HOLDER_STOP_S", 0.2)
        folder = engine_folder(place.settings)
        bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        with hold_exclusively(folder.holder_lock, on_wait=lambda line: None):
            folder.holder_record.write_text(json.dumps({"pid": bystander.pid, "start": 1}))
            assert not holding.release_engine(place.settings).was_held
        assert bystander.poll() is None
        bystander.communicate(b"\n")

    def test_holder_that_was_killed(self, place: EnginePlace, held: holding.Held) -> None:
        record = json.loads(engine_folder(place.settings).holder_record.read_text())
        psutil.Process(record["pid"]).kill()
        place.until_gone()
        assert not holding.release_engine(place.settings).was_held
