"""Metrics of runs: which runs have them, what older records come to, and how little is read."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.run_metrics import RunMetrics
from store.run_directory import runs_directory
from store.run_writer import PROGRESS, HeldRun
from store.service.runs_index import RunsIndex
from tests.support.run_directories import SyntheticRun, write_run

RECORD: dict[str, Any] = {
    "at": "2026-11-27T01:00:00.000+00:00", "state": "running", "elapsed_s": 12.5,
    "remaining_s": None, "accepted": 7, "target": 20, "share_done": 0.35, "retries": 2, "replayed": 0,
    "stages": {"generate": {"done": 9, "known": 12, "in_flight": 3, "requests": 9,
                            "prompt_tokens": 900, "cached_tokens": 450, "completion_tokens": 90,
                            "cost": 0.25}},
    "rejected": {"too_similar": 4}, "concurrency": 4, "concurrency_limit": 16,
    "prompt_tokens": 900, "cached_tokens": 450, "completion_tokens": 90, "cost": 0.25,
}  # fmt: skip

Sample = tuple[str, tuple[tuple[str, str], ...]]


def scraped(metrics: RunMetrics) -> dict[Sample, float]:
    """Every sample as Prometheus reads it: name and labels, value."""
    registry = CollectorRegistry()
    registry.register(metrics)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families for sample in family.samples}  # fmt: skip


def make(store: Path, run_id: str, ago: timedelta, *records: dict[str, Any], **state: Any) -> Path:
    """A run that ended some time ago, with progress records."""
    ended = (datetime.now(UTC) - ago).isoformat()
    run_dir = write_run(store, SyntheticRun(run_id, positions=2), finished_at=ended, **state)
    (run_dir / PROGRESS).write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return run_dir


def metrics_of(store: Path) -> RunMetrics:
    return RunMetrics(RunsIndex(store))


def runs_in(samples: dict[Sample, float], name: str = "evoloom_run_state") -> dict[str, str]:
    found = {}
    for metric, labels in samples:
        if metric == name:
            values = dict(labels)
            found[values["run"]] = values.get("state", "")
    return found


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "evoloom.duckdb"


def test_a_record_comes_out_under_the_names_of_the_documentation(store: Path) -> None:
    make(store, "night", timedelta(minutes=1), {"accepted": 1}, RECORD)
    of_run = (("kind", "self-instruct"), ("run", "night"))
    of_stage = (*of_run, ("stage", "generate"))
    samples = scraped(metrics_of(store))
    assert samples == {
        ("evoloom_run_state", (*of_run, ("state", "completed"))): 1,
        ("evoloom_run_progress_timestamp_seconds", of_run): 1795741200.0,
        ("evoloom_run_target", of_run): 20,
        ("evoloom_run_concurrency", of_run): 4,
        ("evoloom_run_concurrency_limit", of_run): 16,
        ("evoloom_run_elapsed_seconds", of_run): 12.5,
        ("evoloom_run_done_ratio", of_run): 0.35,
        ("evoloom_run_accepted_total", of_run): 7,
        ("evoloom_run_retries_total", of_run): 2,
        ("evoloom_run_replayed_total", of_run): 0,
        ("evoloom_run_rejected_total", (of_run[0], ("reason", "too_similar"), of_run[1])): 4,
        ("evoloom_run_requests_in_flight", of_stage): 3,
        ("evoloom_run_requests_known", of_stage): 12,
        ("evoloom_run_requests_total", of_stage): 9,
        ("evoloom_run_prompt_tokens_total", of_stage): 900,
        ("evoloom_run_cached_tokens_total", of_stage): 450,
        ("evoloom_run_completion_tokens_total", of_stage): 90,
        ("evoloom_run_cost_total", of_stage): 0.25,
    }
    documented = (Path(__file__).parents[3] / "docs" / "MONITORING.md").read_text()
    assert [name for name, _ in samples if f"`{name}`" not in documented] == []


def test_a_record_of_before_stages_were_counted_has_its_sums_under_all(store: Path) -> None:
    old = {**RECORD, "stages": {"generate": {"done": 9, "known": 12, "in_flight": 3}}}
    for key in ("concurrency", "concurrency_limit"):
        del old[key]
    make(store, "night", timedelta(minutes=1), old)
    samples = {(name, dict(labels).get("stage")): value
               for (name, labels), value in scraped(metrics_of(store)).items()}  # fmt: skip
    assert samples["evoloom_run_requests_total", "generate"] == 9
    assert samples["evoloom_run_prompt_tokens_total", "all"] == 900
    assert samples["evoloom_run_cost_total", "all"] == 0.25
    assert ("evoloom_run_concurrency", None) not in samples


def test_a_training_has_its_losses(store: Path) -> None:
    record = {"at": "2026-11-27T01:00:00.000+00:00", "state": "running", "elapsed_s": 1.0,
              "remaining_s": None, "share_done": 0.5, "step": 6, "steps": 12, "epoch": 1.5,
              "loss": 2.5, "held_out_loss": None, "tokens_per_s": 310.5}  # fmt: skip
    make(store, "tuned", timedelta(minutes=1), record)
    samples = {name: value for (name, _), value in scraped(metrics_of(store)).items()}
    wanted = {"step": 6, "steps": 12, "epoch": 1.5, "loss": 2.5}
    assert {key: samples[f"evoloom_training_{key}"] for key in wanted} == wanted
    assert samples["evoloom_run_tokens_per_second"] == 310.5
    assert "evoloom_training_held_out_loss" not in samples


def test_only_runs_of_the_last_hour_have_series(store: Path) -> None:
    make(store, "now", timedelta(minutes=59), RECORD)
    make(store, "old", timedelta(minutes=61), RECORD)
    make(store, "stopped", timedelta(minutes=5), RECORD, state="interrupted")
    samples = scraped(metrics_of(store))
    assert runs_in(samples) == {"now": "completed", "stopped": "interrupted"}
    assert runs_in(samples, "evoloom_run_accepted_total").keys() == {"now", "stopped"}


def test_a_run_that_nobody_executes_was_killed(store: Path) -> None:
    run_dir = make(store, "night", timedelta(0), RECORD, state="running")
    with HeldRun(store, "night"):
        assert runs_in(scraped(metrics_of(store))) == {"night": "running"}
    assert runs_in(scraped(metrics_of(store))) == {"night": "interrupted"}
    long_ago = time.time() - 4000
    os.utime(run_dir / PROGRESS, (long_ago, long_ago))
    assert runs_in(scraped(metrics_of(store))) == {}


def test_a_scrape_reads_the_ends_of_files_and_nothing_where_nothing_is_new(store: Path) -> None:
    run_dir = make(store, "night", timedelta(minutes=1), RECORD)
    with (run_dir / PROGRESS).open("r+b") as file:
        file.truncate(500_000_000)  # a hole, which takes no space
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + json.dumps({**RECORD, "accepted": 8}).encode() + b"\n")
    metrics = metrics_of(store)
    scraped(metrics)

    def read_by_a_scrape() -> tuple[int, float]:
        before = _bytes_read()
        found = {name: value for (name, _), value in scraped(metrics).items()}
        return _bytes_read() - before, found["evoloom_run_accepted_total"]

    few, accepted = read_by_a_scrape()
    assert accepted == 8
    assert few < 20_000
    with (run_dir / PROGRESS).open("ab") as more:
        more.write(json.dumps({**RECORD, "accepted": 9}).encode() + b"\n")
        more.write(b'{"accepted": 1')  # is being written
    some, accepted = read_by_a_scrape()
    assert accepted == 9
    assert some < 120_000


def test_a_damaged_record_leaves_the_others_alone(store: Path) -> None:
    make(store, "good", timedelta(minutes=1), RECORD)
    bad = {**RECORD, "stages": [1], "rejected": "no", "accepted": "many", "at": None}
    make(store, "bad", timedelta(minutes=1), bad)
    (runs_directory(store) / "worse").mkdir()
    samples = scraped(metrics_of(store))
    assert runs_in(samples, "evoloom_run_accepted_total").keys() == {"good"}
    assert runs_in(samples).keys() == {"good", "bad"}


def _bytes_read() -> int:
    """Bytes that this process has asked the kernel for so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])
