from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from pipeline.errors import UsageError
from store.database import StoreBusyError, StoreError, temporary_path, wal_path
from store.ingest import ingest
from store.rebuild import rebuild
from store.schema import latest_version
from store.snapshot import (
    SnapshotReader,
    is_current,
    open_snapshot,
    publish,
    read_snapshot,
    snapshot_link,
)
from tests.support.run_directories import SyntheticRun, write_run
from tests.support.stores import dump


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "evoloom.duckdb"
    write_run(path, SyntheticRun("first", positions=6))
    ingest(path)
    return path


def names(store: Path) -> list[str]:
    return sorted(entry.name for entry in store.parent.iterdir() if "snapshot" in entry.name)


class TestPublish:
    def test_the_snapshot_holds_what_the_live_file_holds(self, store: Path) -> None:
        publish(store)
        assert dump(snapshot_link(store).resolve()) == dump(store)

    def test_it_says_when_it_was_taken_and_of_which_runs(self, store: Path) -> None:
        write_run(store, SyntheticRun("second", positions=2))
        ingest(store)
        published = publish(store)
        assert published.run_ids == ("first", "second")
        assert read_snapshot(store) == published
        with duckdb.connect(store, read_only=True) as connection:
            assert connection.execute("SELECT * FROM snapshot").fetchall() == []

    def test_the_link_moves_and_all_but_the_newest_two_files_go(self, store: Path) -> None:
        for generation in range(1, 5):
            assert publish(store).generation == generation
            assert snapshot_link(store).readlink() == Path(f"evoloom.snapshot-{generation}.duckdb")
        assert names(store) == [
            "evoloom.snapshot-3.duckdb",
            "evoloom.snapshot-4.duckdb",
            "evoloom.snapshot.duckdb",
        ]

    def test_one_of_an_older_schema_or_none_at_all_is_not_current(self, store: Path) -> None:
        assert not is_current(store)
        publish(store)
        assert is_current(store)
        with duckdb.connect(snapshot_link(store).resolve()) as connection:
            connection.execute("DELETE FROM schema_version WHERE version = ?", [latest_version()])
        assert not is_current(store)
        publish(store)
        assert is_current(store)
        snapshot_link(store).resolve().write_bytes(b"no database")
        assert not is_current(store)

    def test_leftovers_of_a_killed_publish_are_no_hindrance(self, store: Path) -> None:
        temporary_path(store, "snapshot").write_bytes(b"half a copy")
        wal_path(temporary_path(store, "snapshot")).write_bytes(b"half a log")
        temporary_path(store, "link").symlink_to("nowhere")
        # Renamed, and killed before the link moved.
        (store.parent / "evoloom.snapshot-7.duckdb").write_bytes(b"")
        assert publish(store).generation == 8
        assert dump(snapshot_link(store).resolve()) == dump(store)
        assert names(store) == [
            "evoloom.snapshot-7.duckdb",
            "evoloom.snapshot-8.duckdb",
            "evoloom.snapshot.duckdb",
        ]

    def test_a_store_that_does_not_exist_is_published_empty(self, tmp_path: Path) -> None:
        assert publish(tmp_path / "new.db").run_ids == ()
        assert (tmp_path / "new.db.snapshot.duckdb").is_symlink()

    def test_a_connection_left_open_in_this_process_is_named(self, store: Path) -> None:
        publish(store)
        with duckdb.connect(store, read_only=True), pytest.raises(StoreBusyError):
            publish(store, wait_s=0)
        assert read_snapshot(store).generation == 1

    def test_a_copy_that_cannot_be_written_leaves_the_old_snapshot(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(store)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("store.snapshot.shutil.copyfile", full)
        with pytest.raises(StoreError, match="No space left"):
            publish(store)
        assert read_snapshot(store).generation == 1


class TestOpen:
    def test_the_newest_is_seen_while_an_old_one_stays_open(self, store: Path) -> None:
        publish(store)
        old = open_snapshot(store)
        for number in range(3):
            write_run(store, SyntheticRun(f"later-{number}", positions=1))
            ingest(store)
            publish(store)
        with open_snapshot(store) as new:
            assert new.execute("SELECT count(*) FROM runs").fetchall() == [(4,)]
        assert old.execute("SELECT run_id FROM runs").fetchall() == [("first",)]
        old.close()

    def test_it_cannot_be_written(self, store: Path) -> None:
        publish(store)
        with open_snapshot(store) as connection, pytest.raises(duckdb.Error, match="read-only"):
            connection.execute("DELETE FROM runs")

    def test_before_the_first_it_is_a_usage_error(self, store: Path) -> None:
        with pytest.raises(UsageError, match="no snapshot has been published yet"):
            open_snapshot(store)

    def test_one_that_is_damaged_is_named(self, store: Path) -> None:
        path = publish(store).path
        path.write_bytes(b"not a database" * 1000)
        with pytest.raises(StoreError, match="snapshot cannot be opened"):
            open_snapshot(store)


class TestRebuild:
    def test_publishes_what_it_made(self, store: Path) -> None:
        publish(store)
        store.unlink()
        report = rebuild(store)
        assert report.snapshot.generation == 2
        assert [run.run_id for run in report.ingested.runs] == ["first"]
        assert dump(snapshot_link(store).resolve()) == dump(store)

    def test_rows_of_runs_that_are_gone_go(self, store: Path) -> None:
        runs = store.with_name("evoloom.duckdb.runs")
        (runs / "first").rename(store.parent / "elsewhere")
        assert rebuild(store).snapshot.run_ids == ()

    def test_the_old_files_log_is_not_replayed_into_the_new_one(self, store: Path) -> None:
        expected = dump(store)
        store.with_name("evoloom.duckdb.wal").write_bytes(b"of the old file")
        rebuild(store)
        assert dump(store) == expected


class TestReader:
    def test_it_moves_over_when_the_snapshot_changes(self, store: Path) -> None:
        publish(store)
        with SnapshotReader(store) as reader:
            held = reader.current()
            assert runs_of(held) == ["first"]
            for number in range(3):  # the file that it opened is removed by the third
                write_run(store, SyntheticRun(f"later-{number}", positions=1))
                ingest(store)
                publish(store)
                assert reader.snapshot().generation == 2 + number
                with reader.current() as connection:
                    assert len(runs_of(connection)) == 2 + number
            assert "evoloom.snapshot-1.duckdb" not in names(store)
            assert runs_of(held) == ["first"]
            held.close()

    def test_it_stays_where_it_is_while_nothing_changes(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(store)
        with SnapshotReader(store) as reader:
            reader.current().close()
            monkeypatch.setattr(duckdb, "connect", None)
            assert runs_of(reader.current()) == ["first"]

    def test_what_it_gave_out_survives_it(self, store: Path) -> None:
        publish(store)
        with SnapshotReader(store) as reader:
            held = reader.current()
        assert runs_of(held) == ["first"]
        held.close()

    def test_threads_share_it(self, store: Path) -> None:
        publish(store)
        with SnapshotReader(store) as reader, ThreadPoolExecutor(4) as pool:

            def count(_: int) -> int:
                with reader.current() as connection:
                    return len(runs_of(connection))

            found = [pool.submit(count, number) for number in range(20)]
            write_run(store, SyntheticRun("second", positions=1))
            ingest(store)
            publish(store)
            assert {future.result() for future in found} <= {1, 2}
            assert count(0) == 2

    def test_before_the_first_it_is_a_usage_error(self, store: Path) -> None:
        with SnapshotReader(store) as reader:
            with pytest.raises(UsageError, match="evoloom store ingest"):
                reader.current()
            publish(store)
            assert runs_of(reader.current()) == ["first"]


def runs_of(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()
    return [str(run_id) for (run_id,) in rows]
