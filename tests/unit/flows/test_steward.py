"""Whose runs the steward of `evoloom up` takes up again, with a server in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.nightly import record_path
from flows.up import steward as stewards
from flows.up.steward import Steward


class Api:
    """Flow runs by tag and state, as Prefect's server lists them."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = rows
        self.scheduled: list[str] = []

    def flow_runs(
        self, *, tags: list[str], states: list[str] | None = None
    ) -> list[dict[str, Any]]:
        return [
            row for row in self.rows
            if set(tags) <= set(row["tags"]) and (states is None or row["state_type"] in states)
        ]  # fmt: skip

    def set_state(self, flow_run_id: str, state: dict[str, Any]) -> str:
        self.scheduled.append(flow_run_id)
        return "ACCEPT"


def nightly(store: Path) -> dict[str, Any]:
    """A nightly that Prefect takes for running; no process of this machine is at it."""
    return {
        "id": "11111111-1111-1111-1111-111111111111", "name": "night", "deployment_id": "d",
        "tags": ["evoloom", "nightly", "run:tonight"], "state_type": "RUNNING",
        "state": {"message": ""}, "parameters": {"settings": {"store": {"path": str(store)}}},
    }  # fmt: skip


def looked(api: Api, store: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is scheduled again after two looks."""
    monkeypatch.setattr(stewards, "ABANDONED_AFTER_S", 0.0)
    steward = Steward(api, store)  # type: ignore[arg-type]
    for _ in range(2):
        steward.look()
    return api.scheduled


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "evoloom.duckdb"


def begin(store: Path) -> None:
    record = record_path(store, "tonight")
    record.parent.mkdir(parents=True)
    record.write_text("{}")


def test_a_nightly_that_began_here_is_taken_up(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(store)
    assert len(looked(Api(nightly(store)), store, monkeypatch)) == 1


def test_a_nightly_of_another_machines_store_at_the_same_path_is_not(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looked(Api(nightly(store)), store, monkeypatch) == []


def test_a_store_is_the_same_by_whichever_path(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(store)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    by_link = tmp_path / "link" / "evoloom.duckdb"
    assert len(looked(Api(nightly(store)), by_link, monkeypatch)) == 1
    assert len(looked(Api(nightly(by_link)), store, monkeypatch)) == 1
    other = tmp_path / "other.duckdb"
    assert looked(Api(nightly(other)), store, monkeypatch) == []
