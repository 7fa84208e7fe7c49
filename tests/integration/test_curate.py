"""Curation from the command line: versions, rejects in the store, judging that survives a kill."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.retention import prune
from store.datasets import content_hash_of, read_summary
from store.journal import read_entries
from store.run_directory import is_run, list_run_ids, read_state, runs_directory
from store.run_rows import read_run_rows
from store.run_writer import JOURNAL
from store.snapshot import open_snapshot
from tests.support import runs
from tests.support.children import start_child
from tests.support.cli import InProcess, clean
from tests.support.teachers import TeacherFactory, TeacherProcess

ROWS = [
    ("Write a short story about a brave dog.", "", "Rex ran into the fire and saved the cat."),
    ("Write a short story about a brave cat.", "", "Tom climbed the tower and rang the bell."),
    ("Sum up the text.", "It rained. We stayed.", "Rain kept us in."),
    ("Sum up the text.", "It rained. We stayed.", "Rain kept us in."),
    ("Name three rivers of Europe.", "", "Rhine, Danube, Ebro."),
    ("Name a colour.", "", "Blue"),
    ("Schreibe einen kurzen Brief an deine Mutter und an deinen Vater.", "", "Liebe Mutter."),
    ("Explain why the sky is blue.", "", "Air scatters blue light more than red light."),
    ("Give a tip for sleeping well.", "", "Go to bed at the same time each night."),
    ("Describe a bridge in one sentence.", "", "It is an arch of grey stone."),
]  # fmt: skip
RECIPE = """description = "for tests"
seed = 3
[[steps]]
step = "exact_duplicates"
[[steps]]
step = "near_duplicates"
[[steps]]
step = "length"
min_output = 2
[[steps]]
step = "language"
[[steps]]
step = "decontamination"
"""
JUDGED = RECIPE + '\n[[steps]]\nstep = "quality"\nthreshold = 4.4\n'
Rows = list[tuple[Any, ...]]


@pytest.fixture
def evoloom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> InProcess:
    """The command line, with a store that holds the import `rows`."""
    clean(monkeypatch, tmp_path)
    monkeypatch.setenv("EVOLOOM_STORE__ANALYSE", "false")
    lines = (json.dumps(dict(zip(("instruction", "input", "output"), row, strict=True)))
             for row in ROWS)  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "judged.toml").write_text(JUDGED)
    command = InProcess(monkeypatch, capsys)
    ended = command("import", "rows.jsonl", "--name", "rows")
    assert ended.code == 0, ended.err
    return command


def curate(evoloom: InProcess, *more: str, name: str = "fine", **env: str) -> dict[str, Any]:
    ended = evoloom("curate", "rows", "--name", name, "--json", "--quiet", *more, **env)
    assert ended.code == 0, ended.err
    return dict(json.loads(ended.out))


def query(tmp_path: Path, sql: str) -> Rows:
    with open_snapshot(tmp_path / "evoloom.duckdb") as connection:
        return connection.execute(sql).fetchall()


def judgements(tmp_path: Path) -> list[str]:
    runs_dir = runs_directory(tmp_path / "evoloom.duckdb")
    return [run for run in list_run_ids(runs_dir) if run.startswith("judgement-")]


class TestVersions:
    def test_rejects_are_in_the_store_with_step_reason_and_score(
        self, evoloom: InProcess, tmp_path: Path
    ) -> None:
        made = curate(evoloom, "--recipe", "recipe.toml")
        version = made["run_id"]
        assert (made["instructions"], made["instances"], made["created"]) == (6, 6, True)
        found = query(tmp_path, "SELECT step, name, reason, score, evidence, instruction "
                                "FROM curation_rejects ORDER BY step")  # fmt: skip
        assert found == [
            (1, "exact_duplicates", "exact_duplicate", None,
             "Sum up the text.\nIt rained. We stayed.", "Sum up the text."),
            (2, "near_duplicates", "near_duplicate", 0.875, ROWS[0][0], ROWS[1][0]),
            (3, "length", "output_too_short", 1.0, None, "Name a colour."),
            (4, "language", "instruction_language", None, "de", ROWS[6][0]),
        ]  # fmt: skip
        steps = query(tmp_path, "SELECT step, name, instructions_in, instances_in, "
                                "instructions_out, instances_out FROM curation_steps")  # fmt: skip
        assert steps == [
            (1, "exact_duplicates", 9, 10, 9, 9), (2, "near_duplicates", 9, 9, 8, 8),
            (3, "length", 8, 8, 7, 7), (4, "language", 7, 7, 6, 6),
            (5, "decontamination", 6, 6, 6, 6),
        ]  # fmt: skip
        assert query(tmp_path, "SELECT items_found, rejected FROM curation_contamination "
                               "WHERE file LIKE 'bundled %'")[0] == (0, 0)  # fmt: skip
        funnel = query(tmp_path, f"SELECT outcome, reason, count FROM funnel WHERE run_id = "
                                 f"'{version}' AND subject = 'instances'")  # fmt: skip
        assert sorted(funnel, key=str) == sorted([
            ("parsed", None, 10), ("accepted", None, 6), ("rejected", "exact_duplicate", 1),
            ("rejected", "near_duplicate", 1), ("rejected", "output_too_short", 1),
            ("rejected", "instruction_language", 1),
        ], key=str)  # fmt: skip

    def test_rejects_are_in_no_export_no_statistics_and_no_hash(
        self, evoloom: InProcess, tmp_path: Path
    ) -> None:
        version = curate(evoloom, "--recipe", "recipe.toml")["run_id"]
        assert evoloom("export", version, "--format", "alpaca", "--out", "x.jsonl").code == 0
        exported = [json.loads(line) for line in Path("x.jsonl").read_text().splitlines()]
        wanted = [ROWS[n] for n in (0, 2, 4, 7, 8, 9)]
        assert [tuple(row.values()) for row in exported] == wanted
        statistics = query(tmp_path, "SELECT instructions, instances FROM dataset_statistics "
                                     f"WHERE run_id = '{version}'")  # fmt: skip
        assert statistics == [(6, 6)]
        plain = [dict(zip(("instruction", "input", "output"), row, strict=True)) for row in wanted]
        Path("plain.jsonl").write_text("\n".join(map(json.dumps, plain)))
        assert evoloom("import", "plain.jsonl", "--name", "plain").code == 0
        same = json.loads(evoloom("datasets", "create", "plainly", "plain", "--json").out)
        run_dir = runs_directory(tmp_path / "evoloom.duckdb") / version
        summary = read_summary(run_dir.parent, version)
        assert summary.content_hash == content_hash_of(run_dir) == same["content_hash"]
        assert evoloom("store", "check").code == 0
        # What is made of a version has nothing of its rejects.
        again = json.loads(evoloom("datasets", "create", "again", version, "--json").out)
        assert again["content_hash"] == summary.content_hash
        assert again["instances"] == 6

    def test_the_same_again_names_the_version_that_is_there(self, evoloom: InProcess) -> None:
        first = curate(evoloom, "--recipe", "recipe.toml")
        second = curate(evoloom, "--recipe", "recipe.toml")
        assert (second["run_id"], second["created"]) == (first["run_id"], False)
        Path("other.toml").write_text(RECIPE.replace("min_output = 2", "min_output = 6"))
        third = curate(evoloom, "--recipe", "other.toml")
        assert third["created"] and third["run_id"] != first["run_id"]
        diff = json.loads(evoloom("datasets", "diff", first["run_id"], "fine", "--json").out)
        assert (diff["only_a_count"], diff["only_b_count"]) == (2, 0)

    def test_manifest_and_card_tell_recipe_steps_and_sources(self, evoloom: InProcess) -> None:
        version = curate(evoloom, "--recipe", "recipe.toml")["run_id"]
        card = evoloom("datasets", "show", version).out
        for part in ("`rows`", "Recipe: `recipe`: for tests", "`near_duplicates`", "| 5 |",
                     "threshold 0.7", "near_duplicate 1", "bundled user_oriented.jsonl"):  # fmt: skip
            assert part in card, card
        raw = json.loads((Path("evoloom.duckdb.runs") / version / "manifest.json").read_text())
        assert raw["inputs"] == ["rows"]
        assert raw["recipe"]["seed"] == 3
        assert raw["recipe"]["steps"][2] == {
            "step": "length", "unit": "words", "min_instruction": None, "max_instruction": None,
            "min_input": None, "max_input": None, "min_output": 2, "max_output": None,
        }  # fmt: skip
        assert "kept out: near_duplicate" in evoloom("runs", "show", version).out

    def test_lima_says_what_it_is_and_hands_its_preset_on(self, evoloom: InProcess) -> None:
        long = "It explains the matter at length, as one would hope. " * 30
        row = {"instruction": "Explain it.", "input": "", "output": long}
        Path("long.jsonl").write_text(json.dumps(row))
        assert evoloom("import", "long.jsonl", "--name", "long").code == 0
        ended = evoloom("curate", "rows", "long", "--recipe", "lima", "--name", "l", "--json")
        made = json.loads(ended.out)
        assert made["instances"] == 1
        card = evoloom("datasets", "show", "l").out
        assert "mechanical rules of LIMA (arXiv 2305.11206) only" in card
        assert "`training.epochs` | `15`" in card
        manifest = Path("evoloom.duckdb.runs") / made["run_id"] / "manifest.json"
        assert json.loads(manifest.read_text())["curation"]["training"]["learning_rate"] == 1e-5


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nosuch", "--name", "x"], "no run 'nosuch'"),
            (["rows.jsonl", "--name", "x"], "`evoloom import rows.jsonl` makes a run of it"),
            (["rows", "--name", "a b"], "dataset name 'a b'"),
            (["rows"], "--name NAME is needed"),
            (["--name", "x"], "a source (a run, an import, a dataset version) is needed"),
            (["rows", "--name", "x", "--recipe", "cleen"], "did you mean 'clean'?"),
            (["rows", "--name", "x", "--recipe", "empty.toml"], "nothing is left after step 1 (length)"),
            (["rows", "--name", "x", "--recipe", "file.toml"], "no.jsonl: cannot be read"),
            (["rows", "--name", "x", "--progress", "rows.jsonl/x"], "--progress rows.jsonl/x"),
        ],
    )  # fmt: skip
    def test_is_refused_before_anything_is_made(
        self, evoloom: InProcess, tmp_path: Path, arguments: list[str], said: str
    ) -> None:
        Path("empty.toml").write_text('[[steps]]\nstep = "length"\nmin_output = 900\n')
        Path("file.toml").write_text('[[steps]]\nstep = "decontamination"\nfiles = ["no.jsonl"]\n')
        before = list_run_ids(runs_directory(tmp_path / "evoloom.duckdb"))
        ended = evoloom("curate", *arguments)
        assert ended.code == 2
        assert said in " ".join(ended.err.replace("│", " ").split()), ended.err
        assert "Traceback" not in ended.err
        assert list_run_ids(runs_directory(tmp_path / "evoloom.duckdb")) == before


class TestJudging:
    def flags(self, teacher: TeacherProcess) -> list[str]:
        return ["--recipe", "judged.toml", "--set", f"teacher.base_url={teacher.url}",
                "--set", "teacher.model=scripted", "--set", "teacher.api=chat"]  # fmt: skip

    def test_scores_are_kept_and_what_was_answered_is_never_asked_again(
        self, evoloom: InProcess, tmp_path: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teacher = scripted_teacher()
        made = curate(evoloom, *self.flags(teacher))
        quality = made["steps"][-1]
        assert quality["step"] == "quality"
        assert 0 < quality["instances_out"] < quality["instances_in"] == 6
        (run_id,) = judgements(tmp_path)
        rows = read_run_rows(runs_directory(tmp_path / "evoloom.duckdb") / run_id)
        answers = len(rows.completions)
        discarded = [row for row in rows.completions.values() if row.state == "discarded"]
        assert answers == 6 + sum(row.attempt == 0 for row in discarded)
        asked = len(teacher.requests())
        assert asked == answers

        kept = query(tmp_path, "SELECT scores ->> '$.quality' FROM instances WHERE run_id = "
                               f"'{made['run_id']}' AND state = 'accepted'")  # fmt: skip
        assert len(kept) == made["instances"]
        assert all(float(score) >= 4.4 for (score,) in kept)
        out = query(tmp_path, "SELECT reason, score, evidence, scores ->> '$.quality' "
                              "FROM curation_rejects WHERE name = 'quality'")  # fmt: skip
        for reason, score, evidence, quality_score in out:
            if reason == "low_quality":
                assert score == float(quality_score) < 4.4
                assert evidence.split()[1].rstrip(":") in {"3", "4"}
            else:
                assert (reason, score) == ("unrated", None)
        usage = query(tmp_path, f"SELECT requests FROM teacher_usage WHERE run_id = '{run_id}'")
        assert usage == [(answers,)]

        # Another threshold is another version, for free; the same is the same.
        Path("judged.toml").write_text(JUDGED.replace("4.4", "1.0"))
        more = curate(evoloom, *self.flags(teacher))
        assert more["created"] and more["instances"] >= made["instances"]
        Path("judged.toml").write_text(JUDGED)
        again = curate(evoloom, *self.flags(teacher))
        assert (again["created"], again["content_hash"]) == (False, made["content_hash"])
        assert len(teacher.requests()) == asked
        shown = evoloom("runs", "show", run_id).out
        assert "of 6 texts rated" in shown

        # Also without the journal: the spool has the answers.
        assert [run.run_id for run in prune(tmp_path / "evoloom.duckdb", timedelta(0)).pruned] == [
            run_id
        ]
        pruned = curate(evoloom, *self.flags(teacher))
        assert (pruned["created"], pruned["content_hash"]) == (False, made["content_hash"])
        assert len(teacher.requests()) == asked

    def test_killed_in_the_middle_it_goes_on_where_it_was(
        self, evoloom: InProcess, tmp_path: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teacher = scripted_teacher("--latency", "0.3", "0.6")
        store = tmp_path / "evoloom.duckdb"
        slow = [*self.flags(teacher), "--set", "teacher.concurrency=1"]
        recipe = ("--recipe", tmp_path / "judged.toml")  # the child has another working directory
        child = start_child(
            tmp_path, "curate", "rows", "--name", "fine", *slow, *recipe, "--store", store
        )
        journal: Path | None = None
        while journal is None or not journal.exists() or len(list(read_entries(journal))) < 2:
            assert child.is_running(), child.errors()
            found = judgements(tmp_path)
            journal = runs_directory(store) / found[0] / JOURNAL if found else None
        child.signal(signal.SIGKILL)
        child.wait()
        assert not any(run.startswith("fine@") for run in list_run_ids(runs_directory(store)))
        paid = list(read_entries(journal))
        assert 2 <= len(paid) < 6

        made = curate(evoloom, *slow)
        (run_id,) = judgements(tmp_path)
        entries = list(read_entries(runs_directory(store) / run_id / JOURNAL))
        assert entries[: len(paid)] == paid
        # The teacher knows an address by its seed; only what was in flight at the kill is asked twice.
        asked = [request["seed"] for request in teacher.requests()]
        assert all(asked.count(seed) == 1 for seed in runs.sampling_seeds(paid))
        assert set(asked) == runs.sampling_seeds(entries)
        assert is_run(store, made["run_id"])

    def test_a_cap_interrupts_it_and_a_higher_one_goes_on(
        self, evoloom: InProcess, tmp_path: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teacher = scripted_teacher("--answers", "valid")
        capped = ["--set", "caps.tokens=2500", "--set", "teacher.concurrency=1"]
        flags = self.flags(teacher)
        ended = evoloom("curate", "rows", "--name", "fine", *flags, *capped)
        assert ended.code == 75
        assert "judging was interrupted (cap)" in ended.err
        assert "the same command goes on where it stopped" in ended.err
        (run_id,) = judgements(tmp_path)
        run_dir = runs_directory(tmp_path / "evoloom.duckdb") / run_id
        assert read_state(run_dir).state == "interrupted"
        asked = len(teacher.requests())
        assert 0 < asked < 6
        # By its own name it can be resumed as well.
        assert evoloom("resume", run_id, "--set", "caps.tokens=900000", "--quiet").code == 0
        assert read_state(run_dir).state == "completed"
        curate(evoloom, *flags)
        assert len(teacher.requests()) == 6
