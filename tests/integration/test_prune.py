"""`evoloom prune`: which journals go, what still works without one, and kills in the middle of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.retention import parse_age, prune
from pipeline.errors import UsageError
from store import checked_lines
from store.checking import check
from store.evaluations import ANSWERS, RESULTS
from store.pruning import JournalNeededError, prune_run
from store.rebuild import rebuild
from store.run_directory import PRUNED, PrunedRunError, read_pruned
from store.run_writer import JOURNAL, HeldRun
from tests.support import runs
from tests.support.cli import InProcess, clean
from tests.support.evaluated import write_evaluation
from tests.support.stores import dump
from tests.support.teachers import TeacherFactory

AGE = timedelta(days=30)


def let_age(store: Path, days: float, run_id: str = runs.RUN) -> None:
    """Have a run have ended some days ago."""
    path = runs.run_path(store, run_id) / "state.json"
    state = json.loads(path.read_bytes())
    ended = datetime.now(UTC) - timedelta(days=days)
    state["finished_at"] = ended.isoformat(timespec="milliseconds")
    path.write_text(json.dumps(state))


def files(store: Path, run_id: str = runs.RUN) -> dict[str, bytes]:
    """What a run directory holds, but for what pruning changes."""
    changing = (JOURNAL, PRUNED, "lock")
    return {path.name: path.read_bytes() for path in runs.run_path(store, run_id).iterdir()
            if path.name not in changing}  # fmt: skip


def has_journal(store: Path, run_id: str = runs.RUN) -> bool:
    return (runs.run_path(store, run_id) / JOURNAL).exists()


@pytest.fixture
def old(undisturbed: Path, tmp_path: Path) -> Path:
    """A store whose one run ended 40 days ago."""
    store = runs.copy_store(undisturbed, tmp_path / "copy")
    let_age(store, 40)
    return store


@pytest.fixture
def pruned(old: Path) -> Path:
    """The same, pruned."""
    assert [run.run_id for run in prune(old, AGE).pruned] == [runs.RUN]
    return old


@pytest.fixture
def evoloom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> InProcess:
    clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


class TestWhich:
    def test_the_journal_goes_and_nothing_else(self, old: Path) -> None:
        before = files(old)
        size = (runs.run_path(old) / JOURNAL).stat().st_size
        entries = len(runs.journal_of(old))
        report = prune(old, AGE)
        assert [(run.bytes, run.entries) for run in report.pruned] == [(size, entries)]
        assert (report.freed_bytes, report.kept) == (size, ())
        assert not has_journal(old)
        assert files(old) == before
        record = read_pruned(runs.run_path(old))
        assert record is not None and (record.bytes, record.entries) == (size, entries)
        again = prune(old, AGE)
        assert (again.pruned, again.kept) == ((), ())

    def test_a_dry_run_tells_the_same_and_removes_nothing(self, old: Path) -> None:
        told = prune(old, AGE, dry_run=True)
        assert has_journal(old) and read_pruned(runs.run_path(old)) is None
        assert prune(old, AGE) == told

    def test_younger_ones_are_kept(self, old: Path) -> None:
        let_age(old, 29.99)
        assert [run.why for run in prune(old, AGE).kept] == ["young"]
        assert has_journal(old)

    @pytest.mark.parametrize(
        "state", ["interrupted", "cancelled", "paused", "queued", "running", "failed"]
    )
    def test_resumable_ones_are_kept_whatever_their_age(self, old: Path, state: str) -> None:
        path = runs.run_path(old) / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), "state": state}))
        report = prune(old, AGE)
        assert (report.pruned, [run.why for run in report.kept]) == ((), ["resumable"])
        # Also where it was resumed after that was looked at.
        with pytest.raises(JournalNeededError):
            prune_run(runs.run_path(old), datetime.now(UTC).replace(tzinfo=None))
        assert has_journal(old)

    def test_one_that_reached_its_ceiling_is_pruned(self, old: Path) -> None:
        path = runs.run_path(old) / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), "state": "ceiling"}))
        assert [run.state for run in prune(old, AGE).pruned] == ["ceiling"]

    def test_one_that_a_process_holds_is_skipped(self, old: Path) -> None:
        with HeldRun(old, runs.RUN):
            assert [run.why for run in prune(old, AGE).kept] == ["taken"]
            assert has_journal(old)
        assert prune(old, AGE).pruned

    def test_one_whose_spool_is_gone_keeps_the_journal_that_can_make_it_again(
        self, old: Path
    ) -> None:
        spool = runs.run_path(old) / "spool"
        lines = list(checked_lines.read(spool))
        with spool.open("r+b") as file:
            file.truncate(lines[-1][0])  # all but the last batch
        (kept,) = prune(old, AGE).kept
        assert kept.why == "needed" and "spool lacks" in kept.message
        assert has_journal(old)

    def test_a_damaged_one_does_not_hold_up_the_others(self, old: Path) -> None:
        other = runs.run_path(old, "another")
        shutil.copytree(runs.run_path(old), other)
        (other / "state.json").write_text("{")
        report = prune(old, AGE)
        assert [run.run_id for run in report.pruned] == [runs.RUN]
        assert [(run.run_id, run.why) for run in report.kept] == [("another", "unreadable")]

    def test_of_an_evaluation_both_journals_go_unless_its_results_are_missing(
        self, old: Path
    ) -> None:
        write_evaluation(old, "eval-1", [{"instruction": "a", "reference": "b", "base": "c",
                                          "tuned": "b"}])  # fmt: skip
        let_age(old, 40, "eval-1")
        run_dir = runs.run_path(old, "eval-1")
        (run_dir / JOURNAL).touch()
        answers = run_dir / ANSWERS
        shutil.copy(runs.run_path(old) / JOURNAL, answers)
        (run_dir / RESULTS).rename(run_dir / "away")
        assert [run.why for run in prune(old, AGE, ["eval-1"]).kept] == ["needed"]
        assert answers.exists()
        (run_dir / "away").rename(run_dir / RESULTS)
        (run,) = prune(old, AGE, ["eval-1"]).pruned
        assert run.entries == len(runs.journal_of(old))
        assert not answers.exists() and not has_journal(old, "eval-1")


class TestAfterwards:
    def test_exports_rows_and_a_rebuild_are_the_same(self, old: Path) -> None:
        exported, rows = runs.export_bytes(old), dump(old)
        prune(old, AGE)
        assert runs.export_bytes(old) == exported
        rebuild(old)
        again = dump(old)
        for tables in (rows, again):
            # When it ended was changed behind the store's back.
            tables["runs"] = [row[:13] for row in tables["runs"]]
        assert again == rows

    def test_a_check_finds_nothing_wrong_and_names_it(self, pruned: Path) -> None:
        rebuild(pruned)
        report = check(pruned)
        assert (report.findings, report.pruned) == ((), (runs.RUN,))

    def test_a_journal_that_was_not_pruned_is_still_missed(self, pruned: Path) -> None:
        rebuild(pruned)
        (runs.run_path(pruned) / PRUNED).unlink()
        assert "its journal does not hold" in check(pruned).findings[0].what

    def test_a_check_tells_of_a_pruned_run_that_has_not_ended(self, pruned: Path) -> None:
        path = runs.run_path(pruned) / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), "state": "interrupted"}))
        rebuild(pruned)
        assert [finding.what for finding in check(pruned).findings] == [
            "is interrupted, though it was pruned"
        ]

    def test_deriving_again_is_refused_and_leaves_nothing(
        self, pruned: Path, evoloom: InProcess
    ) -> None:
        before = sorted(runs.run_path(pruned).parent.iterdir())
        ended = evoloom("rederive", runs.RUN, "--set", "novelty.threshold=0.5", "--store",
                        str(pruned))  # fmt: skip
        assert ended.code == 2
        assert f"run {runs.RUN} was pruned on " in ended.err
        assert "cannot be derived again" in ended.err
        assert sorted(runs.run_path(pruned).parent.iterdir()) == before

    def test_a_resume_says_that_it_is_done_and_makes_no_journal(
        self, pruned: Path, evoloom: InProcess
    ) -> None:
        ended = evoloom("resume", runs.RUN, "--store", str(pruned))
        assert ended.code == 0, ended.err
        assert "it is done" in ended.err
        assert "evoloom export" in ended.out and "evoloom rederive" not in ended.out
        assert not has_journal(pruned)
        given_up = evoloom("resume", runs.RUN, "--give-up", "classify/3.1", "--store", str(pruned))
        assert given_up.code == 2
        with pytest.raises(PrunedRunError):
            HeldRun(pruned, runs.RUN)
        assert not has_journal(pruned)

    def test_it_is_evolved_and_listed_as_ever(
        self, pruned: Path, evoloom: InProcess, scripted_teacher: TeacherFactory
    ) -> None:
        result = runs.evolve(
            pruned, scripted_teacher(), runs.RUN, run_id="evolved", evol_instruct__rounds=1
        )
        assert result.end.state == "completed"
        listed = evoloom("runs", "--store", str(pruned)).out
        assert "completed (pruned)" in listed
        shown = json.loads(evoloom("runs", "--json", "--store", str(pruned)).out)
        assert [bool(run["pruned_at"]) for run in shown] == [False, True]


class TestCommand:
    def test_it_tells_what_went_and_what_stayed(self, old: Path, evoloom: InProcess) -> None:
        shutil.copytree(runs.run_path(old), runs.run_path(old, "interrupted"))
        manifest = runs.run_path(old, "interrupted") / "manifest.json"
        manifest.write_text(
            json.dumps({**json.loads(manifest.read_bytes()), "run_id": "interrupted"})
        )
        state = runs.run_path(old, "interrupted") / "state.json"
        state.write_text(json.dumps({**json.loads(state.read_bytes()), "state": "interrupted"}))
        there = ("--older-than", "30d", "--store", str(old))
        dry = evoloom("prune", *there, "--dry-run")
        assert (dry.code, has_journal(old)) == (0, True)
        assert "1 journal would be removed" in dry.out
        value: dict[str, Any] = json.loads(evoloom("prune", *there, "--json").out)
        assert [run["run_id"] for run in value["pruned"]] == [runs.RUN]
        assert value["freed_bytes"] == value["pruned"][0]["bytes"] > 0
        assert [(run["run_id"], run["why"]) for run in value["kept"]] == [
            ("interrupted", "resumable")
        ]
        again = evoloom("prune", *there)
        assert "0 journals removed, 0 bytes; kept: 1 to be resumed" in again.out
        named = evoloom("prune", *there, "interrupted")
        assert named.code == 1
        assert "interrupted: kept: it is interrupted, and a resume reads its journal" in named.out
        checked = evoloom("store", "check", "--store", str(old))
        assert (
            "pruned, so checked without a journal and not to be derived again: night" in checked.out
        )

    @pytest.mark.parametrize("age", ["30", "d", "-1d", "30 days", "1y", "99999999999d"])
    def test_an_age_that_cannot_be_read_is_a_usage_error(
        self, old: Path, evoloom: InProcess, age: str
    ) -> None:
        ended = evoloom("prune", f"--older-than={age}", "--store", str(old))
        assert ended.code == 2
        assert "--older-than" in ended.err and "Traceback" not in ended.err
        assert has_journal(old)

    def test_ages_are_read(self) -> None:
        ages = {"90m": timedelta(minutes=90), "12h": timedelta(hours=12), "2w": timedelta(days=14),
                "0.5d": timedelta(hours=12), "30d": AGE}  # fmt: skip
        assert {text: parse_age(text) for text in ages} == ages

    def test_a_named_run_without_a_journal_is_named(self, pruned: Path, evoloom: InProcess) -> None:
        done = evoloom("prune", "--older-than", "0m", runs.RUN, "--store", str(pruned))
        assert (done.code, done.out.splitlines()[0]) == (
            0, f"{runs.RUN}: has no journal, or gave it up before",
        )  # fmt: skip
        assert prune(pruned, AGE).without_journal == (runs.RUN,)

    def test_a_store_that_is_not_there_is_a_usage_error(
        self, tmp_path: Path, evoloom: InProcess
    ) -> None:
        done = evoloom("prune", "--older-than", "1d", "--store", str(tmp_path / "nope.duckdb"))
        assert done.code == 2
        assert "nope.duckdb: there is no such store" in done.err

    def test_an_unknown_run_is_a_usage_error(self, old: Path) -> None:
        with pytest.raises(UsageError, match="no run 'nobody'"):
            prune(old, AGE, ["nobody"])


@pytest.mark.parametrize(
    "every", [3, pytest.param(1, marks=pytest.mark.verify_operations)], ids=["some", "all"]
)
def test_killed_anywhere_the_next_pruning_ends_at_the_same(
    old: Path, tmp_path: Path, every: int
) -> None:
    def pruning(store: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.support.killed", str(store), "prune", str(kill_at)],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip

    counted = runs.copy_store(old, tmp_path / "counted")
    points = int(pruning(counted, 0).stdout)
    half_done = 0
    # The last ones: what comes before the record is written only reads.
    for kill_at in range(points - 6 * every - 12, points, every):
        store = runs.copy_store(old, tmp_path / f"killed-{kill_at}")
        assert pruning(store, kill_at).returncode == -9
        record, has = read_pruned(runs.run_path(store)), has_journal(store)
        assert has or record is not None
        half_done += has and record is not None
        if record is not None:  # what it says holds at once
            with pytest.raises(PrunedRunError):
                HeldRun(store, runs.RUN)
        prune(store, AGE)
        assert not has_journal(store)
        assert files(store) == files(counted)
        after = read_pruned(runs.run_path(store))
        assert after is not None and (record is None or after == record)
        shutil.rmtree(store.parent)
    assert half_done >= 1
