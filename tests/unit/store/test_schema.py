import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from pipeline.errors import UsageError
from store.database import open_live, wal_path, writer_lock
from store.frames import DERIVED, SCHEMAS
from store.ingest import ingest
from store.rebuild import rebuild
from store.schema import latest_version, migrations
from store.snapshot import publish
from tests.support.run_directories import SyntheticRun, write_run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "evoloom.duckdb"
    ingest(path)
    return path


class TestMigrations:
    def test_are_numbered_without_gaps_from_one(self) -> None:
        assert [step.version for step in migrations()] == list(range(1, latest_version() + 1))

    def test_every_table_view_and_column_says_what_it_is(self, store: Path) -> None:
        with duckdb.connect(store, read_only=True) as connection:
            bare = connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE comment IS NULL "
                "UNION ALL SELECT view_name FROM duckdb_views() "
                "WHERE NOT internal AND comment IS NULL "
                "UNION ALL SELECT table_name || '.' || column_name FROM duckdb_columns() "
                "WHERE NOT internal AND comment IS NULL"
            ).fetchall()
        assert bare == []

    @pytest.mark.parametrize("table", sorted(SCHEMAS))
    def test_frames_have_the_tables_columns(self, store: Path, table: str) -> None:
        with duckdb.connect(store, read_only=True) as connection:
            columns = connection.execute(
                "SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index",
                [table],
            ).fetchall()
        expected = [*SCHEMAS[table], *DERIVED.get(table, ())]
        if table == "instructions":
            expected.append("text_id")  # made by DuckDB
        assert sorted(name for (name,) in columns) == sorted(expected)

    def test_every_table_has_a_primary_key(self, store: Path) -> None:
        with duckdb.connect(store, read_only=True) as connection:
            bare = connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE NOT has_primary_key"
            ).fetchall()
        assert bare == []

    def test_an_older_store_is_brought_up_to_date(self, tmp_path: Path) -> None:
        path = tmp_path / "evoloom.duckdb"
        with duckdb.connect(path) as connection:
            connection.execute(migrations()[0].sql)
            connection.execute("INSERT INTO schema_version VALUES (1, 'initial', '0.0.1', now())")
        ingest(path)
        with duckdb.connect(path, read_only=True) as connection:
            versions = connection.execute(
                "SELECT version FROM schema_version ORDER BY 1"
            ).fetchall()
            assert connection.execute("SELECT * FROM funnel").fetchall() == []
        assert versions == [(step.version,) for step in migrations()]


class TestForeignFiles:
    def test_a_newer_store_is_refused_by_both_versions(self, store: Path) -> None:
        with duckdb.connect(store) as connection:
            connection.execute("INSERT INTO schema_version VALUES (99, 'later', '9.8.7', now())")
        before = store.read_bytes()
        for command in (ingest, publish):
            with pytest.raises(UsageError) as caught:
                command(store)
            message = str(caught.value)
            assert "schema version 99, written by evoloom 9.8.7" in message
            assert f"versions up to {latest_version()}" in message
            assert "Use evoloom 9.8.7 or later" in message
            assert caught.value.exit_code == 2
        assert store.read_bytes() == before

    def test_somebody_elses_database_is_refused_untouched(self, tmp_path: Path) -> None:
        path = tmp_path / "sales.duckdb"
        with duckdb.connect(path) as connection:
            connection.execute("CREATE TABLE sales (id INTEGER)")
        before = path.read_bytes()
        with pytest.raises(UsageError, match=r"tables of its own \(sales\).*--store"):
            ingest(path)
        assert path.read_bytes() == before

    def test_a_file_that_is_no_database_is_refused_untouched(self, tmp_path: Path) -> None:
        path = tmp_path / "evoloom.duckdb"
        path.write_text("not a database" * 1000)
        with pytest.raises(UsageError, match="store rebuild"):
            ingest(path)
        assert path.read_text().startswith("not a database")

    def test_rebuild_mends_a_damaged_file(self, tmp_path: Path) -> None:
        path = tmp_path / "evoloom.duckdb"
        write_run(path, SyntheticRun("night"))
        path.write_text("not a database" * 1000)
        assert rebuild(path).snapshot.run_ids == ("night",)

    def test_an_empty_file_is_a_new_store(self, tmp_path: Path) -> None:
        path = tmp_path / "evoloom.duckdb"
        path.touch()
        write_run(path, SyntheticRun("night"))
        assert [run.run_id for run in ingest(path).runs] == ["night"]

    def test_a_log_whose_database_was_deleted_is_not_replayed(self, tmp_path: Path) -> None:
        path = tmp_path / "evoloom.duckdb"
        write_run(path, SyntheticRun("night"))
        ingest(path)
        # A process that ends without closing leaves its last transactions in the log.
        code = (
            "import duckdb, os, sys; connection = duckdb.connect(sys.argv[1]); "
            "connection.execute('UPDATE runs SET accepted = 99'); os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        assert wal_path(path).exists()
        path.unlink()
        ingest(path)
        assert not wal_path(path).exists()
        with duckdb.connect(path, read_only=True) as connection:
            assert connection.execute("SELECT accepted FROM runs").fetchall() == [(20,)]


def test_a_store_in_a_folder_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        ingest(tmp_path / "file" / "evoloom.duckdb")


def test_an_exception_in_a_write_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "evoloom.duckdb"
    with pytest.raises(RuntimeError), writer_lock(path, "test"), open_live(path):
        raise RuntimeError
    assert ingest(path).runs == ()
