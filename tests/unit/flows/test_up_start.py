"""What `evoloom up` hands on to its services."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.up import start
from flows.up.place import Place
from flows.up.services import Plan
from pipeline.config import load_settings, parse_flag


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "configured_url", lambda: None)


def plan_of(tmp_path: Path, *sets: str) -> Plan:
    flags: dict[str, Any] = dict(map(parse_flag, sets))
    place = Place(tmp_path / "up")
    place.make()
    wanted = start.Wanted(
        settings=load_settings({**flags, "api.port": 18080}),
        place=place, prefect_port=0, limit=1, has_gpu=False, has_teacher=False, sets=sets,
        config=None,
    )  # fmt: skip
    return start._plan(wanted)


def test_prices_of_models_keep_their_names(
    clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("Qwen3-8B", "org/Model-1.5", 'a "b"')
    sets = [f"prices.models.{name}.prompt=1.5" for name in names]
    plan = plan_of(tmp_path, *sets, "prices.models.Qwen3-8B.completion=3", "caps.cost=25")
    for name, value in plan.environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.caps.cost == 25
    assert {
        name: prices.prompt for name, prices in settings.prices.models.items()
    } == dict.fromkeys(names, 1.5)
    assert settings.prices.models["Qwen3-8B"].completion == 3
    assert settings.prices.models["Qwen3-8B"].cached_prompt is None


@pytest.mark.parametrize(
    ("host", "shown"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]")],
)
def test_the_apis_address_is_one(clean: None, tmp_path: Path, host: str, shown: str) -> None:
    plan = plan_of(tmp_path, f"api.host={host}")
    assert plan.api_url == f"http://{shown}:{plan.api_port}"
    assert replace(plan, api_port=1).api_url == f"http://{shown}:1"
