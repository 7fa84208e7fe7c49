"""compact, backup, and what a rebuild takes over: a store is whole afterwards, or as it was."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from pipeline.errors import UsageError
from store.backup import back_up, restore_hint, service_path
from store.compacting import compact
from store.database import StoreBusyError, StoreError, hold_closed
from store.ingest import ingest
from store.pruning import JOURNALS
from store.rebuild import rebuild
from store.run_directory import PRUNED, read_state, runs_directory, spool_path
from store.snapshot import publish, read_snapshot, snapshot_link
from store.spool import read_batches
from tests.support.run_directories import SyntheticRun, write_run
from tests.support.stores import dump


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "here" / "evoloom.duckdb"
    write_run(path, SyntheticRun("first", positions=6))
    ingest(path)
    publish(path)
    return path


def add_analysis(store: Path) -> None:
    """Rows that no run directory holds, one of them of an instruction that is no more."""
    with duckdb.connect(store) as connection:
        connection.execute("INSERT INTO parsers VALUES ('p1', '2026-11-21')")
        connection.execute(
            "INSERT INTO verb_nouns BY NAME SELECT DISTINCT text_id, 'mended' AS method, "
            "'p1' AS parser_version, 'imperative' AS kind, 'write' AS verb, "
            "[{verb: 'sort', noun: NULL}] AS further FROM instructions"
        )
        connection.execute(
            "INSERT INTO novelty_scores BY NAME "
            "SELECT id AS instruction_id, run_id, 0.5 AS pool_score FROM instructions "
            "UNION ALL BY NAME SELECT 'gone' AS instruction_id, 'first' AS run_id"
        )


class TestCompact:
    def test_rows_stay_and_dead_space_goes(self, store: Path) -> None:
        add_analysis(store)
        with duckdb.connect(store) as connection:
            connection.execute("CREATE TABLE ballast AS SELECT hash(range) AS h FROM range(400000)")
        write_run(store, SyntheticRun("second", positions=200))  # it lies behind the ballast
        ingest(store)
        with duckdb.connect(store) as connection:
            connection.execute("DROP TABLE ballast")
        before = dump(store)
        report = compact(store)
        assert dump(store) == before
        assert report.bytes_after == store.stat().st_size < report.bytes_before - 1_000_000
        assert read_snapshot(store) == report.snapshot
        assert dump(snapshot_link(store).resolve()) == before
        write_run(store, SyntheticRun("third", positions=2))
        assert [run.run_id for run in ingest(store).runs] == ["third"]
        with duckdb.connect(store, read_only=True) as connection:
            query = "SELECT count(*) FROM duckdb_columns() WHERE comment IS NULL AND NOT internal"
            assert connection.execute(query).fetchall() == [(0,)]

    def test_a_held_file_stays_as_it_was(self, store: Path) -> None:
        before = store.read_bytes()
        with duckdb.connect(store, read_only=True), pytest.raises(StoreBusyError):
            compact(store, wait_s=0)
        assert store.read_bytes() == before

    def test_somebody_who_writes_meanwhile_loses_nothing(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def hold_after_a_write(path: Path) -> object:
            with duckdb.connect(path) as connection:
                connection.execute("INSERT INTO parsers VALUES ('theirs', '2026-11-21')")
            return hold_closed(path)

        monkeypatch.setattr("store.compacting.hold_closed", hold_after_a_write)
        with pytest.raises(StoreError, match="another program wrote to it meanwhile"):
            compact(store)
        assert len(dump(store)["parsers"]) == 1
        names = [entry.name for entry in store.parent.iterdir()]
        assert [name for name in names if name.startswith(".")] == []


class TestRebuild:
    def test_it_takes_over_what_no_run_directory_holds(self, store: Path) -> None:
        add_analysis(store)
        before = dump(store)
        before["novelty_scores"] = [row for row in before["novelty_scores"] if row[0] != "gone"]
        assert before["verb_nouns"]
        assert before["novelty_scores"]
        report = rebuild(store)
        assert dump(store) == before
        assert report.taken_over

    @pytest.mark.parametrize("damage", ["missing", "no database", "another version"])
    def test_an_old_file_that_cannot_be_read_is_no_hindrance(
        self, store: Path, damage: str
    ) -> None:
        before = dump(store)
        add_analysis(store)
        if damage == "missing":
            store.unlink()
        elif damage == "no database":
            store.write_bytes(b"damaged" * 1000)
        else:
            with duckdb.connect(store) as connection:
                connection.execute("ALTER TABLE verb_nouns RENAME COLUMN kind TO sort")
        assert rebuild(store).taken_over is None
        assert dump(store) == before


def restored(hint: str, backup: Path, place: Path) -> Path:
    """Follow the hint up to the command of evoloom, which the caller runs; the new store."""
    place.mkdir()
    shell, _, command = hint.partition(" && ")
    subprocess.run(shell.replace("PLACE", str(place)), shell=True, cwd=backup.parent, check=True)
    assert command.startswith("evoloom store ")
    return place / command.rpartition("PLACE/")[2]


class TestBackup:
    @pytest.mark.parametrize("name", ["backup", "backup.tar", "backup.tar.gz", "backup.tgz"])
    def test_it_holds_everything_and_is_restored_as_it_says(
        self, store: Path, tmp_path: Path, name: str
    ) -> None:
        add_analysis(store)
        (runs_directory(store) / "first" / "lock").touch()
        (runs_directory(store) / "first" / ".state.json.77.tmp").touch()
        with closing(sqlite3.connect(service_path(store))) as service:
            service.execute("PRAGMA journal_mode = WAL")
            service.execute("CREATE TABLE keys (name TEXT)")
            service.execute("INSERT INTO keys VALUES ('k')")
            service.commit()
            report = back_up(store, tmp_path / name)  # its row is in the log still
        assert (report.runs, report.database, report.has_service) == (1, "live", True)
        copy = restored(restore_hint(report), tmp_path / name, tmp_path / "there")
        assert dump(copy) == dump(store)
        assert ingest(copy).runs == ()
        assert publish(copy).run_ids == ("first",)
        assert sorted(path.name for path in (runs_directory(copy) / "first").iterdir()) == [
            "manifest.json", "spool", "state.json",
        ]  # fmt: skip
        with closing(sqlite3.connect(service_path(copy))) as service:
            assert service.execute("SELECT * FROM keys").fetchall() == [("k",)]
        about = json.loads((copy.parent / "backup.json").read_text())
        assert about["restore"] == restore_hint(report)
        rebuild(copy)
        assert dump(copy)["instances"] == dump(store)["instances"]

    def test_while_somebody_holds_the_live_file_the_snapshot_stands_in(
        self, store: Path, tmp_path: Path
    ) -> None:
        write_run(store, SyntheticRun("second", positions=2), ingest_pending=True)
        with duckdb.connect(store, read_only=True):
            report = back_up(store, tmp_path / "backup", wait_s=0)
        assert (report.runs, report.database) == (2, "snapshot")
        copy = restored(restore_hint(report), tmp_path / "backup", tmp_path / "there")
        assert [run.run_id for run in ingest(copy).runs] == ["second"]
        ingest(store)
        assert dump(copy) == dump(store)
        with duckdb.connect(copy, read_only=True) as connection:
            assert connection.execute("SELECT * FROM snapshot").fetchall() == []

    def test_without_duckdb_run_directories_are_enough(self, store: Path, tmp_path: Path) -> None:
        before = dump(store)
        store.unlink()
        report = back_up(store, tmp_path / "backup")
        assert report.database == "none"
        copy = restored(restore_hint(report), tmp_path / "backup", tmp_path / "there")
        rebuild(copy)
        assert dump(copy) == before

    def test_a_store_whose_path_means_something_in_an_address_is_copied_whole(
        self, tmp_path: Path
    ) -> None:
        store = tmp_path / "notes #3, 100%41" / "evoloom.duckdb"
        write_run(store, SyntheticRun("first", positions=2))
        ingest(store)
        with closing(sqlite3.connect(service_path(store))) as service:
            service.execute("CREATE TABLE keys (name TEXT)")
            service.execute("INSERT INTO keys VALUES ('k')")
            service.commit()
        back_up(store, tmp_path / "backup")
        with closing(sqlite3.connect(service_path(tmp_path / "backup" / store.name))) as copy:
            assert copy.execute("SELECT * FROM keys").fetchall() == [("k",)]
        assert {path.name for path in tmp_path.iterdir()} == {"backup", store.parent.name}

    def test_nothing_is_overwritten_and_nothing_is_left_half(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "there.tar").write_text("precious")
        with pytest.raises(UsageError, match="exists already"):
            back_up(store, tmp_path / "there.tar")
        assert (tmp_path / "there.tar").read_text() == "precious"
        with pytest.raises(UsageError, match="is no folder"):
            back_up(store, tmp_path / "missing" / "b")
        with pytest.raises(UsageError, match="nothing to back up"):
            back_up(tmp_path / "other.duckdb", tmp_path / "b")

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("store.backup.shutil.copy2", full)
        with pytest.raises(StoreError, match="No space left"):
            back_up(store, tmp_path / "b")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there.tar"]

    @pytest.mark.parametrize("pruned_at", ["journal", "answers", "manifest.json"])
    def test_a_run_that_is_pruned_meanwhile_is_copied_as_pruned(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pruned_at: str
    ) -> None:
        run_dir = runs_directory(store) / "first"
        for name in JOURNALS:
            (run_dir / name).write_bytes(b"answers")
        copied = shutil.copy2

        def prune_before(source: Path, target: Path) -> object:
            if source == run_dir / pruned_at:  # as `prune_run` does: the record, then the journals
                (run_dir / PRUNED).write_text("{}")
                for name in JOURNALS:
                    (run_dir / name).unlink()
            return copied(source, target)

        monkeypatch.setattr("store.backup.shutil.copy2", prune_before)
        back_up(store, tmp_path / "backup")
        copy = runs_directory(tmp_path / "backup" / store.name) / "first"
        assert {"manifest.json", "spool", "state.json", PRUNED} <= {
            path.name for path in copy.iterdir()
        }

    def test_a_training_that_drops_checkpoints_meanwhile_is_copied_with_those_that_are_there(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After each of the first files of a checkpoint it saves a newer one, as the trainer does."""
        checkpoints = runs_directory(store) / "first" / "checkpoints"
        copied = shutil.copy2
        drops = []

        def save(step: int) -> None:
            making = checkpoints / f".checkpoint-{step}.tmp"
            making.mkdir(parents=True)
            (making / "nested").mkdir()
            for name in ("adapter.bin", "nested/optimizer.pt", "trainer_state.json"):
                (making / name).write_text(f"{name} of {step}")
            making.rename(checkpoints / f"checkpoint-{step}")

        def copy_then_drop(source: Path, target: Path) -> None:
            copied(source, target)
            if source.name == "adapter.bin" and len(drops) < 3:
                drops.append(source)
                step = int(source.parent.name.removeprefix("checkpoint-"))
                save(step + 2)
                shutil.rmtree(source.parent)

        save(1)
        save(2)
        (checkpoints / ".checkpoint-9.tmp").mkdir()
        (checkpoints / ".checkpoint-9.tmp" / "half.bin").touch()
        monkeypatch.setattr("store.backup.shutil.copy2", copy_then_drop)
        back_up(store, tmp_path / "backup")
        assert len(drops) == 3
        copy = runs_directory(tmp_path / "backup" / store.name) / "first" / "checkpoints"
        assert sorted(path.name for path in copy.iterdir()) == ["checkpoint-4", "checkpoint-5"]
        for folder in copy.iterdir():
            whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            assert len(whole) == 3
            there = checkpoints / folder.name
            assert all((there / path.relative_to(folder)).read_bytes() == data
                       for path, data in whole.items())  # fmt: skip

    @pytest.mark.parametrize("had_begun", [False, True])
    def test_a_training_that_ends_meanwhile_is_copied_with_its_adapter(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had_begun: bool
    ) -> None:
        """It drops its checkpoints while the first is copied, or `had_begun` to when it was listed."""
        run_dir = runs_directory(store) / "first"
        whole = run_dir / "checkpoints" / "checkpoint-1"
        whole.mkdir(parents=True)
        for name in ("trainer_state.json", "z.bin") if not had_begun else ("trainer_state.json",):
            (whole / name).touch()
        (run_dir / ".settings.json").touch()
        copied = shutil.copy2

        def end(source: Path, target: Path) -> None:
            copied(source, target)
            if source == whole / "trainer_state.json":
                (run_dir / "adapter").mkdir()
                (run_dir / "adapter" / "weights").touch()
                (run_dir / ".settings.json").unlink()
                shutil.rmtree(run_dir / "checkpoints")

        monkeypatch.setattr("store.backup.shutil.copy2", end)
        back_up(store, tmp_path / "backup")
        copy = runs_directory(tmp_path / "backup" / store.name) / "first"
        assert (copy / "adapter" / "weights").exists()
        assert not [path for path in copy.rglob("checkpoints/*") if path.exists()]

    def test_a_run_that_goes_on_meanwhile_is_copied_consistently(
        self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It ends between the first and the second of its files."""
        run = SyntheticRun("second", positions=30)
        total = len(run.batches())
        run_dir = write_run(store, run, state="running", batches=5)
        ingest(store)
        written = 5
        kept = shutil.copy2

        def copy_then_write(source: Path, target: Path) -> None:
            nonlocal written
            kept(source, target)
            if source.parent == run_dir:
                written = total
            write_run(store, run, state="completed" if written == total else "running",
                      batches=written)  # fmt: skip
            ingest(store)

        monkeypatch.setattr("store.backup.shutil.copy2", copy_then_write)
        report = back_up(store, tmp_path / "backup")
        monkeypatch.undo()
        assert written == total
        copy = restored(restore_hint(report), tmp_path / "backup", tmp_path / "there")
        copied = runs_directory(copy) / "second"
        has_all = len(list(read_batches(spool_path(copied)))) == total
        assert has_all or read_state(copied).state == "running"
        ingest(copy)
        write_run(copy, run)  # it goes on from where the copy caught it
        ingest(copy)
        write_run(store, run)
        ingest(store)
        assert dump(copy)["instructions"] == dump(store)["instructions"]
