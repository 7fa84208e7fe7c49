"""Deriving again, earlier runs that block, and run directories that were altered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.rederive import rederive
from pipeline.errors import UsageError
from pipeline.run.journal import ChangedRequestError
from store.checked_lines import DamagedFileError
from store.queries import list_runs
from store.run_writer import AGAINST, JOURNAL
from tests.support import runs
from tests.support.children import run_child
from tests.support.killed_run import DEATHS
from tests.support.teachers import TeacherFactory


@pytest.fixture
def copy(undisturbed: Path, tmp_path: Path) -> Path:
    """The undisturbed run, to be altered."""
    return runs.copy_store(undisturbed, tmp_path / "copy")


@pytest.fixture
def half(interrupted: Path, tmp_path: Path) -> Path:
    """The interrupted run, to be altered."""
    return runs.copy_store(interrupted, tmp_path / "half")


class TestRederive:
    def test_the_same_settings_give_the_same_bytes(self, copy: Path) -> None:
        result = rederive(runs.RUN, copy, {}, "again")
        assert result.left_out == ()
        assert runs.export_bytes(copy, "again") == runs.export_bytes(copy)
        assert runs.rows_of(copy, "again").manifest.rederived_from == runs.RUN
        assert {run.run_id: run.state for run in list_runs(copy)}["again"] == "completed"

    def test_a_stricter_filter_takes_out_what_it_rejects_and_lists_what_lacks_an_answer(
        self, copy: Path
    ) -> None:
        result = rederive(runs.RUN, copy, {"filters.min_words": 9}, "strict")
        rows = runs.rows_of(copy, "strict").instructions.values()
        accepted = [row.text for row in rows if row.state == "accepted"]
        assert accepted
        assert all(len(text.split()) >= 9 for text in accepted)
        assert not {row.text for row in rows if row.state == "left_out"} ^ {
            text.split(" ", 1)[1] for text in result.left_out
        }
        exported = runs.export_bytes(copy, "strict").splitlines()
        assert {json.loads(line)["instruction"] for line in exported} == set(accepted)

    def test_a_looser_filter_lists_what_lacks_an_answer(self, copy: Path) -> None:
        result = rederive(runs.RUN, copy, {"novelty.threshold": 1.0}, "loose")
        assert result.left_out
        rows = runs.rows_of(copy, "loose").instructions.values()
        assert len([row for row in rows if row.state == "left_out"]) == len(result.left_out)
        assert runs.export_bytes(copy, "loose")

    def test_an_interrupted_run_is_derived_as_far_as_it_goes(self, half: Path) -> None:
        result = rederive(runs.RUN, half, {}, "again")
        assert result.left_out
        assert runs.state_of(half, "again").state == "completed"

    def test_what_derives_nothing_is_refused(self, copy: Path) -> None:
        for change in ({"teacher.concurrency": 3}, {"novelty.against": ["x"]}, {"nonsense.x": 1}):
            with pytest.raises(UsageError):
                rederive(runs.RUN, copy, change, "never")
        assert not runs.run_path(copy, "never").exists()

    def test_one_that_was_killed_is_done_again_under_another_name(self, copy: Path) -> None:
        child = run_child(
            copy.parent, "rederive", runs.RUN, "--run-id", "dead", "--store", copy,
            patch=("tests.support.killed_run", "install", "spool.half", "3"),
        )  # fmt: skip
        assert child.wait() in DEATHS, child.errors()
        with pytest.raises(UsageError, match=r"Run `evoloom rederive` again"):
            runs.resume(copy, run_id="dead")
        rederive(runs.RUN, copy, {}, "again")
        assert runs.export_bytes(copy, "again") == runs.export_bytes(copy)


class TestNoveltyAgainst:
    def test_what_an_earlier_run_exported_blocks_and_is_never_a_shot(
        self, copy: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teacher = scripted_teacher()
        # The same seed: the same first answers come again, and nothing of them is new.
        result = runs.start(
            copy, teacher, run_id="second", novelty__against=[runs.RUN], run__target=8,
            run__window=3,
        )  # fmt: skip
        assert result.end.state == "completed"
        rows = runs.rows_of(copy, "second").instructions.values()
        blockers = [row.blocker for row in rows if row.blocker is not None]
        by_run = [blocker for blocker in blockers if blocker.source == "run"]
        assert by_run
        lines = runs.export_bytes(copy).splitlines()
        exported = {json.loads(line)["instruction"] for line in lines}
        assert {blocker.text for blocker in by_run} <= exported
        assert all(blocker.reference.startswith(f"{runs.RUN} ") for blocker in by_run)
        new = {row.text for row in rows if row.state == "accepted"}
        assert not new & exported
        shots = {
            shot.source for row in runs.rows_of(copy, "second").completions.values()
            for shot in row.shots
        }  # fmt: skip
        assert shots <= {"seed", "machine"}
        assert (runs.run_path(copy, "second") / AGAINST).exists()

    def test_a_run_that_is_not_completed_is_refused(
        self, half: Path, scripted_teacher: TeacherFactory
    ) -> None:
        with pytest.raises(UsageError, match=r"run night is interrupted"):
            runs.start(half, scripted_teacher(), run_id="second", novelty__against=[runs.RUN])
        with pytest.raises(UsageError, match="no run 'nobody'"):
            runs.start(half, scripted_teacher(), run_id="second", novelty__against=["nobody"])
        assert not runs.run_path(half, "second").exists()


class TestAlteredRunDirectories:
    def test_another_template_stops_the_run_and_is_named(
        self, half: Path, scripted_teacher: TeacherFactory
    ) -> None:
        path = runs.run_path(half) / "manifest.json"
        manifest = json.loads(path.read_text())
        name = "instruction_generation.completion.j2"
        manifest["templates"][name] = "Please. " + manifest["templates"][name]
        path.write_text(json.dumps(manifest))
        teacher = scripted_teacher()
        with pytest.raises(ChangedRequestError, match=r"generate/0 .*changed: the prompt"):
            runs.resume(half, teacher__base_url=teacher.url, caps__tokens=10_000_000)
        assert teacher.requests() == []

    def test_a_pinned_setting_is_refused_by_name(self, half: Path) -> None:
        message = r"'novelty\.threshold' \(flag\) is 0\.5, but run night was started with 0\.7"
        with pytest.raises(UsageError, match=message):
            runs.resume(half, novelty__threshold=0.5)

    def test_a_damaged_line_in_the_middle_of_the_journal_is_an_error(self, half: Path) -> None:
        path = runs.run_path(half) / JOURNAL
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
        with pytest.raises(DamagedFileError, match=r"journal: the line at byte \d+"):
            runs.resume(half)
        assert path.read_bytes() == bytes(data)

    def test_a_torn_tail_of_the_journal_is_cut_and_that_answer_asked_again(
        self, undisturbed: Path, half: Path, scripted_teacher: TeacherFactory
    ) -> None:
        path = runs.run_path(half) / JOURNAL
        whole = runs.journal_of(half)
        path.write_bytes(path.read_bytes()[:-20])
        teacher = scripted_teacher()
        runs.resume(half, teacher__base_url=teacher.url, caps__tokens=10_000_000)
        asked = {row["seed"] for row in teacher.requests()}
        assert asked & runs.sampling_seeds(whole) == runs.sampling_seeds(whole[-1:])
        assert runs.export_bytes(half) == runs.export_bytes(undisturbed)

    def test_a_run_directory_needs_its_journal_alone_to_be_derived_again(
        self, undisturbed: Path, half: Path, scripted_teacher: TeacherFactory
    ) -> None:
        for name in ("spool", "progress.jsonl", "state.json"):
            (runs.run_path(half) / name).unlink()
        teacher = scripted_teacher()
        runs.resume(half, teacher__base_url=teacher.url, caps__tokens=10_000_000)
        assert runs.export_bytes(half) == runs.export_bytes(undisturbed)
        assert not runs.state_of(half).ingest_pending
