from dataclasses import astuple
from pathlib import Path

import duckdb
import pytest

from pipeline.records import Usage
from store.ingest import ingest
from store.queries import list_runs, show_run
from store.run_directory import runs_directory
from store.run_rows import (
    Funnel,
    funnel,
    prompts_with_two_machine_shots,
    read_run_rows,
    sample_instances,
    stage_usage,
)
from store.snapshot import publish
from tests.support.run_directories import SyntheticRun, append_batches, write_run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "evoloom.duckdb"


class TestFunnel:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("has_settled", [True, False])
    def test_equals_the_view(self, store: Path, seed: int, has_settled: bool) -> None:
        run = SyntheticRun("night", seed=seed, has_settled=has_settled, positions=30, target=15)
        run_dir = write_run(store, run)
        write_run(store, SyntheticRun("other", seed=99, positions=5))
        ingest(store)
        with duckdb.connect(store, read_only=True) as connection:
            view = connection.execute(
                "SELECT * EXCLUDE (run_id) FROM funnel WHERE run_id = 'night'"
            ).fetchall()
        assert [astuple(row) for row in funnel(run_dir).rows] == view
        assert len(view) > 12

    def test_totals_are_the_sums_of_their_parts(self, store: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night", has_settled=False))
        counts = funnel(run_dir)

        def total(subject: str, *outcomes: str) -> int:
            return sum(counts.count(subject, outcome) for outcome in outcomes)

        assert total("completions", "requested") == total(
            "completions", "used", "discarded", "surplus"
        )
        parsed = total("instructions", "parsed")
        assert parsed == total("instructions", "rejected", "admitted") > 0
        admitted = total("instructions", "admitted")
        assert admitted == total(
            "instructions", "accepted", "surplus", "without_instances", "pending", "left_out"
        )
        assert admitted == total(
            "instructions", "classification", "not_classification", "unclassified"
        )
        assert total("instances", "parsed") == total("instances", "rejected", "accepted", "surplus")
        assert total("instructions", "unclassified") == total("instructions", "pending") > 0

    def test_reasons_are_counted_apart(self, store: Path) -> None:
        counts = funnel(write_run(store, SyntheticRun("night")))
        reasons = counts.reasons("instructions", "rejected")
        assert reasons["not_novel"] == max(reasons.values())
        assert sum(reasons.values()) == counts.count("instructions", "rejected")
        assert set(counts.reasons("completions", "discarded", stage="generate")) == {"length"}

    def test_of_a_run_that_has_not_begun_is_empty(self, store: Path) -> None:
        counts = funnel(write_run(store, SyntheticRun("night", positions=0)))
        assert counts == Funnel(()) and counts.count("instructions", "accepted") == 0


class TestSamples:
    def test_are_accepted_spread_and_always_the_same(self, store: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night", target=20))
        rows = read_run_rows(run_dir)
        samples = sample_instances(run_dir, 5)
        assert len(samples) == 5 and samples == sample_instances(rows, 5)
        accepted = [row.text for row in rows.instructions.values() if row.state == "accepted"]
        assert samples[0].instruction == accepted[0]
        assert [sample.instruction for sample in samples] == [accepted[4 * n] for n in range(5)]

    def test_are_as_many_as_there_are(self, store: Path) -> None:
        assert len(sample_instances(write_run(store, SyntheticRun("night", target=3)), 5)) == 3


def test_prompts_with_two_machine_shots_are_counted(store: Path) -> None:
    run_dir = write_run(store, SyntheticRun("night", positions=12, window=4))
    completions = read_run_rows(run_dir).completions.values()
    counted = [[shot.source for shot in row.shots].count("machine") for row in completions]
    assert prompts_with_two_machine_shots(run_dir) == counted.count(2) > 0


def test_usage_counts_what_the_endpoint_sent_and_what_it_did_not(store: Path) -> None:
    run_dir = write_run(store, SyntheticRun("night"))
    completions = list(read_run_rows(run_dir).completions.values())
    stages = stage_usage(run_dir)
    assert [stage.stage for stage in stages] == ["generate", "classify", "instances"]
    assert sum(stage.requests for stage in stages) == len(completions)
    counted = sum((row.usage for row in completions if row.usage), Usage())
    assert sum((stage.usage for stage in stages), Usage()) == counted
    bare = sum(row.usage is None and row.text is not None for row in completions)
    assert sum(stage.without_usage for stage in stages) == bare > 0
    assert sum(stage.reserved_tokens for stage in stages) == bare * 1024


class TestListRuns:
    def test_counts_are_the_run_directorys_with_and_without_a_snapshot(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = SyntheticRun("night", target=12)
        write_run(store, run, state="interrupted", batches=20, reason="cap")
        before = list_runs(store)
        ingest(store)
        publish(store)
        with monkeypatch.context() as patch:
            patch.delattr("store.queries.read_batches")  # counted already: no spool is read
            assert list_runs(store) == before
        assert (before[0].state, before[0].reason, before[0].target) == ("interrupted", "cap", 12)
        append_batches(runs_directory(store) / "night", run.batches())
        (after,) = list_runs(store)
        assert after.accepted == 12 > before[0].accepted
        assert show_run(store, "night").summary == after

    def test_the_newest_comes_first_and_a_damaged_one_is_shown(self, store: Path) -> None:
        for name, day in (("old", 1), ("new", 2), ("bad", 3)):
            created = {"created_at": f"2026-11-0{day}T00:00:00Z"}
            write_run(store, SyntheticRun(name, positions=0, manifest=created))
        (runs_directory(store) / "bad" / "manifest.json").write_text("{")
        runs = list_runs(store)
        assert [(run.run_id, run.state) for run in runs] == [
            ("new", "completed"), ("old", "completed"), ("bad", "unreadable"),
        ]  # fmt: skip
        assert "manifest.json: cannot be read" in (runs[-1].problem or "")

    def test_a_store_without_runs_has_none(self, store: Path) -> None:
        assert list_runs(store) == []

    def test_a_run_in_full(self, store: Path) -> None:
        run_dir = write_run(store, SyntheticRun("night"))
        detail = show_run(store, "night")
        assert detail.funnel == funnel(run_dir)
        assert detail.summary.accepted == detail.funnel.count("instructions", "accepted") == 20
        assert detail.manifest.raw["config"] == {"teacher": {"model": "teacher"}}
