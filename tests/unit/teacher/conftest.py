"""Fixtures of the local engine's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.teacher import processes
from pipeline.teacher.engine import engine_folder
from pipeline.teacher.engine_settings import EngineSettings
from tests.unit.teacher.engine_place import EnginePlace, until


@pytest.fixture
def place(tmp_path: Path) -> Iterator[EnginePlace]:
    files = tmp_path / "files"
    files.mkdir()
    settings = EngineSettings(cache_dir=tmp_path, stop_grace_s=30.0)
    place = EnginePlace(settings, files)
    yield place
    for name in ("gate", "let-go"):
        (files / name).touch()
    for user in place.users:
        user.kill()
        for pipe in (user.process.stdin, user.process.stdout):
            assert pipe
            pipe.close()
    until(lambda: place.status().state in {"stopped", "failed"})
    processes.stop_marked(engine_folder(settings).mark, None, grace_s=0.0)
