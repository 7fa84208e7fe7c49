"""A run and its store: somebody holds the live file; the live file is gone."""

from __future__ import annotations

from pathlib import Path

import duckdb

from flows.execution import exit_code
from store.database import remove_database
from store.queries import list_runs
from store.rebuild import rebuild
from store.snapshot import open_snapshot
from tests.support import runs
from tests.support.hogs import hog
from tests.support.stores import dump
from tests.support.teachers import TeacherFactory


def test_a_run_completes_while_somebody_holds_the_live_file_and_is_ingested_later(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
) -> None:
    teacher = scripted_teacher()
    runs.start(store, teacher, run_id="earlier", run__target=2)
    with hog(store, "read_write"):
        result = runs.start(store, teacher, store__ingest_interval_s=0.05)
        assert (result.end.state, exit_code(result.end)) == ("completed", 0)
        assert result.published.pending is not None
        assert runs.RUN in result.published.pending
        assert runs.state_of(store).ingest_pending
        pending = {run.run_id: run.ingest_pending for run in list_runs(store)}
        assert pending == {runs.RUN: True, "earlier": False}
        assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
    assert ingested(store) == {"earlier"}
    runs.start(store, teacher, run_id="later", run__target=2)
    assert not runs.state_of(store).ingest_pending
    assert ingested(store) == {"earlier", runs.RUN, "later"}
    with open_snapshot(store) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM instructions WHERE run_id = ? AND state = 'accepted'", [runs.RUN]
        ).fetchone() or (None,)
    assert count == runs.TARGET


def test_a_live_file_that_was_deleted_is_made_again_from_the_run_directories(
    undisturbed: Path, tmp_path: Path
) -> None:
    store = runs.copy_store(undisturbed, tmp_path / "copy")
    before = dump(store)
    assert before["instances"]
    remove_database(store)
    rebuild(store)
    assert dump(store) == before


def ingested(store: Path) -> set[str]:
    """The runs in the live file."""
    with duckdb.connect(store, read_only=True) as connection:
        rows = connection.execute("SELECT run_id FROM runs").fetchall()
    return {str(run_id) for (run_id,) in rows}
