"""What the report reads from a published snapshot, against the run directories it comes from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import duckdb
import pytest

from pipeline.errors import UsageError
from store.ingest import ingest
from store.report_data import ReportData, read_report_data
from store.run_directory import runs_directory
from store.run_rows import RunRows, read_run_rows
from store.snapshot import publish, snapshot_link
from tests.support.run_directories import STATE_AT, SyntheticRun, write_run

RUN = SyntheticRun(
    "night",
    positions=60,
    manifest={
        "config": {"novelty": {"threshold": 0.6}, "prices": {"prompt": 2.0, "completion": 4.0}}
    },
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "evoloom.duckdb"
    write_run(path, RUN)
    write_run(path, SyntheticRun("other", positions=5, seed=3), state="interrupted", reason="cap")
    ingest(path)
    publish(path)
    return path


@pytest.fixture(scope="module")
def data(store: Path) -> ReportData:
    return read_report_data(store, "night")[0]


@pytest.fixture(scope="module")
def rows(store: Path) -> RunRows:
    return read_run_rows(runs_directory(store) / "night")


def test_the_head_is_the_runs(data: ReportData) -> None:
    head = data.head
    assert (head.run_id, head.kind, head.state, head.target) == (
        "night",
        "self-instruct",
        "completed",
        20,
    )
    assert head.finished_at is not None
    assert head.finished_at.isoformat() == STATE_AT.removesuffix("+00:00")
    assert (head.seeds, head.models, head.threshold) == (12, ("teacher",), 0.6)
    assert (head.run_seed, data.generation) == (7, 1)


def test_statistics_are_those_of_the_accepted(data: ReportData, rows: RunRows) -> None:
    texts = {row.text for row in rows.instructions.values() if row.state == "accepted"}
    instances = [row for row in rows.instances.values() if row.state == "accepted"]
    assert data.statistics.instructions == len(texts)
    assert data.statistics.instances == len(instances)
    assert data.statistics.empty_inputs == sum(not row.input.strip() for row in instances)
    words = [len(row.output.split()) for row in instances]
    assert data.statistics.mean_output_words == pytest.approx(sum(words) / len(words))


def test_the_funnel_counts_every_instruction(data: ReportData, rows: RunRows) -> None:
    expected = Counter((row.state, row.reason) for row in rows.instructions.values())
    found = {
        (row["outcome"], row["reason"]): row["count"]
        for row in data.funnel.iter_rows(named=True)
        if row["subject"] == "instructions"
        and row["outcome"] in ("accepted", "rejected", "surplus", "without_instances")
    }
    assert found == expected


def test_lengths_are_those_of_the_accepted(data: ReportData, rows: RunRows) -> None:
    words = [len(row.output.split()) for row in rows.instances.values() if row.state == "accepted"]
    outputs = data.lengths.filter(data.lengths["part"] == "output")
    for row in outputs.iter_rows(named=True):
        within = [
            count for count in words if row["words_from"] <= count <= (row["words_to"] or 10**6)
        ]
        assert row["count"] == len(within)
    assert outputs["count"].sum() == len(words)


def test_usage_has_tokens_and_cost_in_the_order_of_the_stages(
    data: ReportData, rows: RunRows
) -> None:
    tokens: Counter[str] = Counter()
    for row in rows.completions.values():
        if row.usage:
            tokens[row.stage] += row.usage.total
    found = {
        row["stage"]: row["prompt_tokens"] + row["completion_tokens"]
        for row in data.usage.iter_rows(named=True)
    }
    assert found == dict(tokens)
    for row in data.usage.iter_rows(named=True):
        expected = (2 * row["prompt_tokens"] + 4 * row["completion_tokens"]) / 1e6
        assert row["cost"] == pytest.approx(expected)


def test_what_has_not_been_analysed_is_empty(data: ReportData) -> None:
    assert (data.parsed, data.with_pair, data.is_scored) == (0, 0, False)
    assert data.novelty.height == data.pairs.height == 0


def test_two_runs_are_read_in_the_order_asked(store: Path) -> None:
    names = [data.head.run_id for data in read_report_data(store, "other", "night")]
    assert names == ["other", "night"]
    (other,) = read_report_data(store, "other")
    assert (other.head.state, other.head.reason) == ("interrupted", "cap")


def test_an_unknown_run_names_those_there_are(store: Path) -> None:
    with pytest.raises(UsageError, match=r"no run 'nigth' in .*; there: .*night") as error:
        read_report_data(store, "nigth")
    assert "other" in str(error.value)


def test_a_run_that_is_not_published_yet_names_the_command(store: Path) -> None:
    write_run(store, SyntheticRun("late", positions=2))
    with pytest.raises(
        UsageError, match=r"late is not in the published snapshot yet: `evoloom store"
    ):
        read_report_data(store, "late")


@pytest.mark.parametrize(
    "change",
    ["DROP VIEW instruction_kinds",
     "CREATE OR REPLACE VIEW teacher_usage AS SELECT 'night' AS run_id"],
    ids=["a view is missing", "columns are missing"],
)  # fmt: skip
def test_an_older_snapshot_names_the_command(tmp_path: Path, change: str) -> None:
    path = tmp_path / "old.duckdb"
    write_run(path, SyntheticRun("night", positions=2))
    ingest(path)
    publish(path)
    with duckdb.connect(snapshot_link(path).resolve()) as connection:
        connection.execute(change)
    with pytest.raises(UsageError, match=r"an older evoloom's: `evoloom store"):
        read_report_data(path, "night")
