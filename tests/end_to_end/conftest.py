"""One vLLM for all end-to-end tests: the session holds a lease, and every run shares the engine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pipeline.teacher.engine import Engine, lease_engine
from pipeline.teacher.engine_settings import EngineSettings


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The bundled model in vLLM, with the settings that a run uses when nothing is configured."""
    for name in list(os.environ):
        if name.startswith("EVOLOOM_"):
            del os.environ[name]
    with lease_engine(EngineSettings()) as engine:
        yield engine
