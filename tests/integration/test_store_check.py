"""`evoloom store check`: clean where nothing is wrong, and whatever is wrong is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline.errors import UsageError
from pipeline.records import Batch, InstanceRow, InstructionRow
from store import checked_lines
from store.checking import Finding, check
from store.dataset_rows import content_hash
from store.ingest import ingest
from store.new_run import NewRun
from store.run_directory import runs_directory, spool_path
from store.run_writer import JOURNAL, HeldRun
from store.snapshot import publish, snapshot_link
from store.spool import read_batches
from tests.support import runs
from tests.support.cli import InProcess
from tests.support.run_directories import SyntheticRun, append_batches, write_run
from tests.support.stores import dump
from tests.support.teachers import TeacherFactory


@pytest.fixture
def copied(undisturbed: Path, tmp_path: Path) -> Path:
    """A store with one finished run, to be spoilt."""
    return runs.copy_store(undisturbed, tmp_path / "copy")


def found(store: Path) -> list[Finding]:
    return list(check(store).findings)


def texts(store: Path) -> str:
    return "\n".join(f"{item.where}: {item.what}; {item.remedy}" for item in found(store))


def write_version(store: Path, output: str = "An answer.") -> Path:
    """A dataset version of one row."""
    instruction = InstructionRow("dataset", (0,), "Name a river.", "accepted")
    instance = InstanceRow("dataset", (0,), 0, "", output, "accepted")
    with NewRun(store, "nightly@2026-11-21.1") as run:
        run.write([Batch("dataset", (0,), (), (instruction,), (instance,))])
        digest = content_hash([(instruction, [instance])])
        return run.finish(
            {"kind": "dataset", "name": "nightly", "version": "2026-11-21.1", "recipe": {},
             "inputs": [], "content_hash": digest, "instructions": 1, "instances": 1}
        )  # fmt: skip


def test_runs_evolutions_interrupted_runs_and_dataset_versions_are_clean(
    interrupted: Path, tmp_path: Path, scripted_teacher: TeacherFactory
) -> None:
    store = runs.copy_store(interrupted, tmp_path / "copy")
    teacher = scripted_teacher()
    runs.start(store, teacher, run_id="second", run__target=6)
    runs.evolve(store, teacher, "second", run_id="evolved", evol_instruct__rounds=2)
    runs.start(store, teacher, run_id="third", run__target=4, novelty__against=["second"])
    write_version(store)
    ingest(store)
    publish(store)
    before = dump(store)
    report = check(store)
    assert report.findings == ()
    assert (report.runs, report.at_work) == (5, ())
    assert report.rows["completions"] == len(before["completions"])
    assert dump(store) == before
    # What the rules of references are about is in these runs.
    assert {row[11] for row in before["instructions"]} >= {"seed", "machine", "run", None}
    assert [row for row in before["instructions"] if row[16]]


# Statements that spoil a live file, and what is said of each; those of a group do not hide another.
_SPOILT = {
    "values": {
        "DELETE FROM instances WHERE id = (SELECT min(id) FROM instances)":
            "table instances: 1 rows of the run directory are missing or differ, 0 rows are not",
        "UPDATE instructions SET evidence = 'x' WHERE id = (SELECT min(id) FROM instructions)":
            "table instructions: 1 rows of the run directory are missing or differ, 1 rows are not",
        "UPDATE completions SET text = 'x' WHERE id = (SELECT min(id) FROM completions)":
            "1 completions in the database that say something else than its journal",
        "UPDATE runs SET accepted = 3":
            "1 row that count other than their accepted and surplus instructions",
        "INSERT INTO novelty_scores BY NAME SELECT 'x' AS instruction_id, 'night' AS run_id":
            "table novelty_scores: 1 row of an instruction that is not there",
        "INSERT INTO verb_nouns BY NAME SELECT uuid() AS text_id, 'mended' AS method, "
        "'1' AS parser_version, 'unparsed' AS kind, [] AS further":
            "table verb_nouns: 1 row of a parser that is not in the table parsers",
    },
    "rows": {
        "DELETE FROM instructions WHERE state = 'accepted'":
            "rows of an instruction that is not there",
        "DELETE FROM completions WHERE stage = 'classify'":
            "journaled answers without a completion in the database, the first: classify/",
        "UPDATE shots SET completion_id = completion_id || 'x'":
            "rows of a completion that is not there",
        "UPDATE shots SET reference = 'nobody' WHERE slot = 0":
            "rows that show a seed task or an instruction that is not there",
        "DELETE FROM seed_tasks": "rows of a seed task that is not there",
    },
    "references": {
        "DELETE FROM instances WHERE state = 'accepted'":
            "accepted in a finished run, without an accepted instance",
        "UPDATE instructions SET blocker_text = 'x' WHERE blocker_source = 'seed'":
            "kept out by a text that is not where they say it stands",
        "UPDATE instructions SET parent = '0.0', parent_id = 'x' WHERE state = 'accepted'":
            "rows with a parent that is not there",
        "UPDATE runs SET reason = 'because'": "table runs: 1 rows",
    },
    "runs": {
        "UPDATE instances SET run_id = 'other'": "rows of a run that is not in the table runs",
        "UPDATE watermarks SET line_checksum = '00000000'":
            "its spool is not the one that was ingested",
    },
}  # fmt: skip


@pytest.mark.parametrize("group", _SPOILT)
def test_a_change_of_the_live_file_is_found(copied: Path, group: str) -> None:
    with duckdb.connect(copied) as connection:
        for statement in _SPOILT[group]:
            connection.execute(statement)
    said = texts(copied)
    for expected in _SPOILT[group].values():
        assert expected in said, said
    for command in ("rebuild", "analyse") if group == "values" else ("ingest",):
        assert f"evoloom store {command} --store {copied}" in said
    assert "differs from the live file" in said


def _drop_an_entry(store: Path) -> None:
    journal = runs.run_path(store) / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3] + lines[4:]))


def _spoil_the_spool(store: Path) -> None:
    _spoil_the_journal(store, "spool")


def _remove_the_live_file(store: Path) -> None:
    store.unlink()


def _spoil_the_live_file(store: Path) -> None:
    store.write_bytes(b"no database" * 1000)


def _spoil_the_journal(store: Path, name: str = JOURNAL) -> None:
    path = runs.run_path(store) / name
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)


def _remove_the_journal(store: Path) -> None:
    (runs.run_path(store) / JOURNAL).unlink()


def _go_on_without_an_ingest(store: Path) -> None:
    append_batches(runs.run_path(store), [Batch("settle", (10_000, 0))])


def _add_a_run(store: Path) -> None:
    write_run(store, SyntheticRun("second"))


def _remove_the_run(store: Path) -> None:
    shutil.rmtree(runs.run_path(store))


def _change_the_manifest(store: Path) -> None:
    path = runs.run_path(store) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "run_seed": 12}))


def _change_a_seed(store: Path) -> None:
    path = runs.run_path(store) / "manifest.json"
    value = json.loads(path.read_text())
    value["seeds"][0]["name"] = "another"
    path.write_text(json.dumps(value))


def _end_in_another_way(store: Path) -> None:
    path = runs.run_path(store) / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "reason": "because"}))


def _spoil_the_snapshot(store: Path) -> None:
    path = snapshot_link(store).resolve()
    data = bytearray(path.read_bytes())
    for offset in range(len(data) // 4, len(data), 4096):
        data[offset : offset + 64] = b"\0" * 64
    path.write_bytes(data)


def _remove_the_snapshot(store: Path) -> None:
    snapshot_link(store).resolve().unlink()


def _rename_the_snapshot(store: Path) -> None:
    old = snapshot_link(store).resolve()
    new = old.with_name("evoloom.snapshot-77.duckdb")
    old.rename(new)
    snapshot_link(store).unlink()
    snapshot_link(store).symlink_to(new.name)


def _ingest_without_publishing(store: Path) -> None:
    _add_a_run(store)
    ingest(store)


def _write_into_the_snapshot(store: Path) -> None:
    with duckdb.connect(snapshot_link(store).resolve()) as connection:
        connection.execute("DELETE FROM runs")


@pytest.mark.parametrize(
    "spoilt",
    [
        {
            _drop_an_entry: "run night: 1 completions in the database that its journal does not hold",
            _spoil_the_snapshot: "evoloom.snapshot.duckdb: ",
            _add_a_run: "run second: is not in the database yet",
        },
        {
            _remove_the_journal: "completions in the database that its journal does not hold",
            _remove_the_snapshot: "no snapshot has been published yet",
            _go_on_without_an_ingest: "1 batches of its spool are not ingested yet",
        },
        {
            _spoil_the_journal: "journal: the line at byte",
            _rename_the_snapshot: "evoloom.snapshot-77.duckdb says that it is generation",
        },
        {
            _spoil_the_spool: "spool: the line at byte",
            _write_into_the_snapshot: "says that it is of 1 runs, but holds 0",
        },
        {
            _ingest_without_publishing: "differs from the live file in completions",
            _change_a_seed: "table seed_tasks: 1 rows of the run directory are missing or differ",
            _end_in_another_way: "table runs: 1 rows of the run directory are missing or differ",
        },
        {_change_the_manifest: "table runs: 1 rows of the run directory are missing or differ"},
        {_remove_the_run: "run night: is in the database, but its run directory is gone"},
        {_remove_the_live_file: "is missing, though there are 1 runs"},
        {_spoil_the_live_file: "cannot be opened"},
    ],
)
def test_a_change_of_a_file_is_found(
    copied: Path, spoilt: dict[Callable[[Path], None], str]
) -> None:
    for spoil in spoilt:
        spoil(copied)
    said = texts(copied)
    for expected in spoilt.values():
        assert expected in said, said


def test_a_dataset_version_that_was_altered_is_found_by_its_hash(store: Path) -> None:
    run_dir = write_version(store)
    ingest(store)
    publish(store)
    assert found(store) == []
    (batch,) = (batch for _, batch in read_batches(spool_path(run_dir)))
    altered = checked_lines.encode(batch).replace(b"An answer.", b"Another..!")
    assert altered != checked_lines.encode(batch)
    spool_path(run_dir).unlink()
    (value,) = (value for _, _, value in _decoded(altered))
    spool_path(run_dir).write_bytes(checked_lines.encode(value))
    ingest(store)
    publish(store)
    (finding,) = found(store)
    assert finding.where == "run nightly@2026-11-21.1"
    assert "content hash" in finding.what
    assert "backup" in finding.remedy


def _decoded(line: bytes) -> list[tuple[int, int, Any]]:
    return [(0, len(line), json.loads(line[9:]))]


def test_a_run_at_work_is_looked_at_as_far_as_it_is_ingested(copied: Path) -> None:
    with HeldRun(copied, runs.RUN):
        _go_on_without_an_ingest(copied)
        report = check(copied)
        assert (report.findings, report.at_work) == ((), (runs.RUN,))
        with duckdb.connect(copied) as connection:
            connection.execute("DELETE FROM instances WHERE id = (SELECT min(id) FROM instances)")
        assert "table instances: 1 rows" in texts(copied)
    assert "1 batches of its spool are not ingested yet" in texts(copied)


def test_what_ingest_and_rebuild_mend_is_clean_afterwards(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evoloom = InProcess(monkeypatch, capsys)
    place = ("--store", str(copied))
    entries = len(runs.journal_of(copied))
    with duckdb.connect(copied) as connection:
        connection.execute("DELETE FROM completions")
    assert f"{entries} journaled answers without a completion" in texts(copied)
    assert evoloom("store", "rebuild", *place).code == 0
    write_version(copied)
    failed = evoloom("store", "check", *place, "--json")
    assert failed.code == 1
    (finding,) = json.loads(failed.out)["findings"]
    assert finding["where"] == "run nightly@2026-11-21.1"
    assert f"evoloom store ingest --store {copied}" in finding["remedy"]
    ended = evoloom("store", "ingest", *place)
    assert ended.code == 0
    assert "nightly@2026-11-21.1: 2 rows of 1 batches" in ended.out
    clean = evoloom("store", "check", *place)
    assert (clean.code, clean.err) == (0, "")
    assert "nothing is wrong (2 runs, " in clean.out


def test_nothing_is_left_behind_and_a_store_that_is_not_there_is_not_made(
    copied: Path, tmp_path: Path
) -> None:
    before = sorted(path.name for path in copied.parent.iterdir())
    check(copied)
    assert sorted(path.name for path in copied.parent.iterdir()) == before
    missing = tmp_path / "missing" / "evoloom.duckdb"
    with pytest.raises(UsageError, match="there is none"):
        check(missing)
    assert not missing.parent.exists()
    assert not runs_directory(missing).exists()
