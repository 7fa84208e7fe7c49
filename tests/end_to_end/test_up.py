"""`evoloom up` with the real engine: it is killed during a run, comes back, and the run goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.teacher.engine import engine_status
from pipeline.teacher.engine_settings import EngineSettings
from tests.support.prefect_server import wait_until
from tests.support.up import Up

pytestmark = pytest.mark.verify_operations


@pytest.fixture
def settings(tmp_path: Path) -> EngineSettings:
    """The user's own unpacked weights, but an engine of our own."""
    return EngineSettings(state_dir=tmp_path / "engine")


@pytest.fixture
def up(tmp_path: Path, settings: EngineSettings) -> Iterator[Up]:
    up = Up(
        tmp_path / "evoloom.duckdb",
        "--set", f"engine.state_dir={settings.state_dir}", "--set", "store.analyse=false",
    )  # fmt: skip
    up.start()
    yield up
    up.clean()


def test_the_engine_is_killed_during_a_run(up: Up, settings: EngineSettings) -> None:
    before = engine_status(settings)
    assert before.running
    assert before.pid is not None
    up.ask_for_bundled_run("night", target=6)
    wait_until(lambda: up.answers("night") >= 4, "the first answers")
    answered = up.answers("night")
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: up.answers("night") > answered + 2, "more answers")
    after = engine_status(settings)
    assert (after.running, after.base_url) == (True, before.base_url)
    assert after.pid != before.pid
    wait_until(lambda: up.run_state("night") in ("completed", "ceiling"), "the run's end")
    assert up.run_state("night") == "completed"
    assert up.evoloom("down").returncode == 0
    assert up.processes() == []
    wait_until(lambda: engine_status(settings).state in ("stopped", "failed"), "the engine's end")
