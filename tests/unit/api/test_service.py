"""What the service does with a store before it serves it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from api.service import open_service
from flows.publishing import publish_store
from pipeline.config import load_settings
from store.schema import latest_version
from store.service.statistics import run_numbers
from store.snapshot import snapshot_link
from tests.support.run_directories import SyntheticRun, write_run


@pytest.mark.parametrize("is_published", [True, False])
def test_a_snapshot_of_an_older_schema_is_published_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_published: bool
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    store = tmp_path / "evoloom.duckdb"
    write_run(store, SyntheticRun("night", positions=2))
    if is_published:
        publish_store(store)
        with duckdb.connect(snapshot_link(store).resolve()) as connection:
            connection.execute("DELETE FROM schema_version WHERE version = ?", [latest_version()])
            connection.execute("CREATE OR REPLACE VIEW teacher_usage AS SELECT 'night' AS run_id")
    with open_service(load_settings({"store.path": str(store)})) as service:
        numbers = run_numbers(service.reads, "night")
    assert numbers is not None
    assert numbers["usage"]
