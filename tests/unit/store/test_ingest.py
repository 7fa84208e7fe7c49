import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline.errors import UsageError
from pipeline.records import Batch, InstanceRow, InstructionRow, row_id
from store import ingest as ingest_module
from store.checked_lines import DamagedFileError
from store.ingest import ingest
from store.rebuild import rebuild
from store.run_directory import DamagedRunError, read_state, spool_path
from tests.support.run_directories import SyntheticRun, append_batches, write_run, write_state
from tests.support.stores import dump


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "evoloom.duckdb"


def query(store: Path, sql: str) -> list[Any]:
    with duckdb.connect(store, read_only=True) as connection:
        return connection.execute(sql).fetchall()


class TestIdempotence:
    def test_ingesting_twice_changes_nothing(self, store: Path) -> None:
        write_run(store, SyntheticRun("night"))
        first = ingest(store)
        before = dump(store)
        assert [run.run_id for run in first.runs] == ["night"]
        assert ingest(store).runs == ()
        assert ingest(store, ["night"]).runs == ()
        assert dump(store) == before

    @pytest.mark.parametrize("has_settled", [True, False])
    def test_pieces_the_whole_and_a_rebuild_are_the_same(
        self, tmp_path: Path, has_settled: bool
    ) -> None:
        runs = [
            SyntheticRun(name, seed=n, positions=24, has_settled=has_settled)
            for n, name in enumerate("ab")
        ]
        pieces, whole = tmp_path / "pieces.duckdb", tmp_path / "whole.duckdb"
        for count in range(0, len(runs[0].batches()), 25):
            for run in runs:
                write_run(pieces, run, state="running", batches=count)
            ingest(pieces)
        for run in runs:
            write_run(pieces, run)
            write_run(whole, run)
        ingest(pieces)
        ingest(whole)
        expected = dump(whole)
        assert len(expected["instructions"]) > 80
        assert dump(pieces) == expected
        rebuild(pieces)
        assert dump(pieces) == expected
        whole.unlink()
        rebuild(whole)
        assert dump(whole) == expected

    def test_chunks_are_transactions_of_one_result(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole, chunked, small = (
            tmp_path / f"{name}.duckdb" for name in ("whole", "chunked", "small")
        )
        for store in (whole, chunked, small):
            write_run(store, SyntheticRun("night", positions=12, target=8))
        ingest(whole)
        monkeypatch.setattr(ingest_module, "CHUNK_BATCHES", 7)
        ingest(chunked)
        monkeypatch.setattr(ingest_module, "CHUNK_BYTES", 4000)
        ingest(small)
        assert dump(chunked) == dump(small) == dump(whole)

    def test_a_failed_chunk_leaves_the_chunks_before_it_and_its_watermark(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_run(store, SyntheticRun("night"))
        monkeypatch.setattr(ingest_module, "CHUNK_BATCHES", 20)
        write, calls = ingest_module._write_run, []

        def failing(*arguments: Any) -> None:
            calls.append(arguments)
            if len(calls) == 3:
                raise RuntimeError("killed after the rows, before the commit")
            write(*arguments)

        monkeypatch.setattr(ingest_module, "_write_run", failing)
        with pytest.raises(RuntimeError):
            ingest(store)
        marks = query(store, "SELECT position[1] FROM watermarks WHERE stream = 'generate'")
        rows = query(store, "SELECT max(generation) FROM completions WHERE stage = 'generate'")
        assert marks == rows != [(None,)]
        monkeypatch.setattr(ingest_module, "_write_run", write)
        ingest(store)
        pieces = dump(store)
        store.unlink()
        ingest(store)
        assert dump(store) == pieces

    def test_a_spool_derived_again_in_another_order_is_read_from_its_start(
        self, store: Path
    ) -> None:
        run = SyntheticRun("night")
        run_dir = write_run(store, run, batches=60)
        ingest(store)
        spool_path(run_dir).unlink()
        by_stream = sorted(run.batches(), key=lambda batch: batch.stream)
        append_batches(run_dir, by_stream)
        (report,) = ingest(store).runs
        assert report.restarted
        found = dump(store)
        store.unlink()
        ingest(store)
        assert dump(store) == found

    def test_a_run_directory_made_anew_replaces_the_old_rows(self, store: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night"))
        ingest(store)
        spool_path(run_dir).unlink()
        write_run(store, SyntheticRun("night", positions=5, seed=8))
        assert ingest(store).runs[0].restarted
        found = dump(store)
        store.unlink()
        ingest(store)
        assert dump(store) == found

    def test_a_torn_tail_waits_for_its_writer(self, store: Path) -> None:
        run = SyntheticRun("night")
        run_dir = write_run(store, run, state="running", batches=20)
        with spool_path(run_dir).open("ab") as file:
            file.write(b'01234567 {"stream": "gen')
        ingest(store)
        write_run(store, run)
        ingest(store)
        pieces = dump(store)
        store.unlink()
        ingest(store)
        assert dump(store) == pieces


class TestRows:
    def test_a_later_state_replaces_the_earlier_one_also_across_ingests(self, store: Path) -> None:
        run = SyntheticRun("night", has_settled=False)
        write_run(store, run, state="running")
        ingest(store)
        (pending,) = query(store, "SELECT count(*) FROM instructions WHERE state = 'pending'")[0]
        assert pending > 0
        write_run(store, SyntheticRun("night"))
        ingest(store)
        assert query(store, "SELECT id FROM instructions WHERE state = 'pending'") == []

    def test_references_lead_to_rows(self, store: Path) -> None:
        write_run(store, SyntheticRun("night"))
        ingest(store)
        assert query(store, "SELECT * FROM shot_texts WHERE text IS NULL") == []
        assert query(store, "SELECT count(DISTINCT source) FROM shot_texts") == [(2,)]
        orphans = (
            "SELECT i.id FROM instances i ANTI JOIN instructions ON instruction_id = instructions.id "
            "UNION ALL SELECT completion_id FROM shots ANTI JOIN completions c ON completion_id = c.id"
        )
        assert query(store, orphans) == []
        counted = "SELECT accepted, surplus FROM runs"
        by_state = (
            "SELECT count(*) FILTER (state = 'accepted'), count(*) FILTER (state = 'surplus') "
            "FROM instructions"
        )
        assert query(store, counted) == query(store, by_state)

    def test_text_that_utf8_cannot_hold_is_kept_readable(self, store: Path) -> None:
        write_run(store, SyntheticRun("night", positions=80))
        ingest(store)
        texts = {text for (text,) in query(store, "SELECT text FROM instructions")}
        assert {"Explain \ufffd briefly", "A\0b", "把句子翻译成英文", 'Say "yes"\tor \\no'} <= texts

    def test_seeds_manifest_and_times_are_there(self, store: Path) -> None:
        write_run(store, SyntheticRun("night", manifest={"rederived_from": "evening"}))
        write_state(store.with_name("evoloom.duckdb.runs") / "night", "ceiling", reason="60 of 60",
                    updated_at="2026-11-21T02:00:00+02:00")  # fmt: skip
        ingest(store)
        assert query(
            store,
            "SELECT state, reason, rederived_from, created_at::VARCHAR, updated_at::VARCHAR, "
            "manifest->>'$.config.teacher.model', manifest->'seeds', ceiling FROM runs",
        ) == [
            ("ceiling", "60 of 60", "evening", "2026-11-20 22:00:00", "2026-11-21 00:00:00",
             "teacher", None, 10.0)
        ]  # fmt: skip
        assert query(store, "SELECT count(*), sum(is_classification::INT) FROM seed_tasks") == [
            (12, 3)
        ]
        assert query(store, "SELECT count(*) FROM seed_instances") == [(12,)]

    def test_evolved_rows_know_their_parent(self, store: Path) -> None:
        run = SyntheticRun("night", positions=0)
        run_dir = write_run(store, run)
        rows = tuple(
            InstructionRow("evolve", (slot,), f"text {slot}", "accepted", parent=parent,
                           operator="deepening", round=slot)
            for slot, parent in enumerate(["source:3", "0"])
        )  # fmt: skip
        child = InstanceRow("evolve", (1,), 0, "", "answer", "accepted")
        append_batches(run_dir, [Batch("evolve", (1,), instructions=rows, instances=(child,))])
        ingest(store)
        assert query(store, "SELECT id, parent_id, item FROM instructions ORDER BY position") == [
            (row_id("night", "evolve", (0,)), row_id("night", "source", (3,)), None),
            (row_id("night", "evolve", (1,)), row_id("night", "evolve", (0,)), None),
        ]

    def test_a_re_ask_is_a_row_of_its_own(self, store: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night", positions=0))
        (completion,) = SyntheticRun("night", positions=1).batches()[0].completions
        asked_again = replace(completion, attempt=1)
        append_batches(run_dir, [Batch("generate", (0,), (completion, asked_again))])
        ingest(store)
        assert query(store, "SELECT attempt FROM completions ORDER BY 1") == [(0,), (1,)]


class TestRuns:
    def test_a_run_without_state_is_queued(self, store: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night", positions=0))
        (run_dir / "state.json").unlink()
        ingest(store)
        assert query(store, "SELECT run_id, state FROM runs") == [("night", "queued")]

    def test_a_new_state_alone_is_something_new(self, store: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night"), state="running")
        ingest(store)
        write_state(run_dir, "cancelled")
        assert [(run.run_id, run.batches) for run in ingest(store).runs] == [("night", 0)]
        assert query(store, "SELECT state FROM runs") == [("cancelled",)]

    def test_only_the_runs_named_are_ingested(self, store: Path) -> None:
        for name in "ab":
            write_run(store, SyntheticRun(name), ingest_pending=True)
        ingest(store, ["b"])
        assert query(store, "SELECT run_id FROM runs") == [("b",)]
        runs = store.with_name("evoloom.duckdb.runs")
        assert read_state(runs / "a").ingest_pending
        assert not read_state(runs / "b").ingest_pending

    def test_the_flag_of_a_run_at_work_is_left_to_it(self, store: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night"), state="running", ingest_pending=True)
        ingest(store)
        assert read_state(run_dir).ingest_pending

    def test_clearing_the_flag_keeps_what_else_the_state_says(self, store: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night"), ingest_pending=True, note="mine")
        before = json.loads((run_dir / "state.json").read_text())
        ingest(store)
        after = json.loads((run_dir / "state.json").read_text())
        assert after == {**before, "ingest_pending": False}

    def test_an_unknown_run_is_a_usage_error_that_lists_those_there_are(self, store: Path) -> None:
        write_run(store, SyntheticRun("night"))
        with pytest.raises(UsageError, match=r"no run 'nigth'.*there: night"):
            ingest(store, ["nigth"])

    def test_one_damaged_run_does_not_hold_up_the_others(self, store: Path) -> None:
        for name in "abcd":
            write_run(store, SyntheticRun(name), ingest_pending=True)
        runs = store.with_name("evoloom.duckdb.runs")
        (runs / "a" / "manifest.json").write_text("{")
        spool = spool_path(runs / "b")
        spool.write_bytes(spool.read_bytes().replace(b"Write", b"Wrote", 1))
        (runs / "c" / "manifest.json").write_text((runs / "d" / "manifest.json").read_text())
        report = ingest(store)
        assert [run.run_id for run in report.runs] == ["d"]
        assert [run.run_id for run in report.damaged] == ["a", "b", "c"]
        assert "keeps its name" in report.damaged[2].message
        assert read_state(runs / "b").ingest_pending
        with pytest.raises(DamagedRunError):
            ingest(store, ["a"])
        with pytest.raises(DamagedFileError):
            ingest(store, ["b"])

    def test_a_folder_without_manifest_is_no_run_yet(self, store: Path) -> None:
        (store.with_name("evoloom.duckdb.runs") / "half").mkdir(parents=True)
        report = ingest(store)
        assert report.runs == () and report.damaged == ()

    def test_a_manifest_of_a_later_format_is_refused(self, store: Path) -> None:
        write_run(store, SyntheticRun("night", manifest={"format": 2}))
        with pytest.raises(UsageError, match="format 2 was written by a newer evoloom"):
            ingest(store, ["night"])
