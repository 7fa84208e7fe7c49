"""The teacher service of `evoloom up` around a small engine: real processes, real leases."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

from flows.up import service as services
from flows.up.place import Place
from flows.up.service import Service
from flows.up.services import Plan, services_of
from flows.up.supervisor import UpSupervisor
from pipeline.config import Settings
from tests.unit.teacher.engine_place import ROOT, EnginePlace, ask, is_alive, until

# `flows.up.teacher` with something smaller than vLLM.
START = f"""
import functools, json, sys
sys.path.insert(0, {str(ROOT)!r})
import flows.up.teacher as teacher
from tests.unit.teacher.engine_user import fake_command
command = fake_command(json.loads(sys.argv.pop()))
teacher.lease_engine = functools.partial(teacher.lease_engine, command=command)
sys.exit(teacher.main())
"""


@pytest.fixture
def up(place: EnginePlace, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in ("FIRST_PAUSE_S", "_CHECK_STARTING_S", "_CHECK_HEALTHY_S"):
        monkeypatch.setattr(services, name, 0.05)
    up = Place(place.files / "up")
    up.make()
    return up


def service_of(place: EnginePlace, up: Place) -> Service:
    settings = Settings(engine=place.settings)
    values = {"cache_dir": place.settings.cache_dir, "stop_grace_s": place.settings.stop_grace_s}
    environment = {f"EVOLOOM_ENGINE__{key.upper()}": str(value) for key, value in values.items()}
    plan = Plan(
        up, settings, environment, "http://127.0.0.1:1/api", None, 1, (), 1, has_teacher=True
    )
    service = next(each for each in services_of(plan) if each.name == "teacher")
    argv = (sys.executable, "-c", START, str(up.path), json.dumps(place.arguments()))
    return dataclasses.replace(service, argv=argv)


def supervise(up: Place, service: Service, script: Callable[[], None]) -> None:
    failed: list[BaseException] = []

    def act() -> None:
        try:
            script()
        except BaseException as exc:
            failed.append(exc)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=act)
    UpSupervisor(up, [service], {}, 0.0, print).run(thread.start)
    thread.join()
    if failed:
        raise failed[0]


def test_an_engine_that_is_killed_is_there_again_at_the_same_address(
    place: EnginePlace, up: Place
) -> None:
    def script() -> None:
        url = json.loads(up.teacher.read_text())["base_url"]
        before = ask(url)
        os.kill(before, signal.SIGKILL)
        until(lambda: len(place.starts()) == 2)

        def is_back() -> bool:
            status = up.read_status()
            assert status is not None
            return status.services[0].restarts >= 1 and status.services[0].state == "healthy"

        until(is_back)
        assert ask(url) not in (0, before)
        assert up.log("engine").samefile(place.status().log_path)

    supervise(up, service_of(place, up), script)
    place.until_gone()


def test_a_run_that_uses_the_engine_keeps_it_when_the_service_is_stopped(
    place: EnginePlace, up: Place
) -> None:
    pids = []

    def script() -> None:
        user = place.user()
        pids.append(user.ready()[0])

    supervise(up, service_of(place, up), script)
    assert is_alive(pids[0])
    place.users[0].finish()
    place.until_gone()
