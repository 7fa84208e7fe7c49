"""What `evoloom schedule` says before it asks a server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.commands.schedule import _local
from flows.schedules import Schedule, limit_name, next_times
from tests.support.cli import InProcess, clean


@pytest.fixture
def evoloom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> InProcess:
    clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


WRONG = [
    (("tomorrow", "--name", "x", "--cron", "0 0 * * *"), "there: self-instruct, evol-instruct"),
    (("nightly", "--name", "x", "--cron", "at noon"), "five fields are expected"),
    (
        ("nightly", "--name", "x", "--cron", "0 0 * * *", "--timezone", "Mars"),
        "Europe/Berlin or UTC",
    ),
    (("nightly", "--name", "x", "--cron", "0 0 * * *", "--pool", "tpu"), "there: cpu, gpu"),
    (("nightly", "--name", "cpu", "--cron", "0 0 * * *"), "another name than cpu, gpu"),
    (("nightly", "--name", "a/b", "--cron", "0 0 * * *"), "without / % & < >"),
    (("curate", "--name", "x", "--cron", "0 0 * * *"), "flow curate without --profile: name"),
    (("nightly", "--name", "x", "--cron", "0 0 * * *", "--set", "run.targets=3"), "run.target"),
    (("nightly", "--name", "x", "--cron", "0 0 * * *"), "PREFECT_API_URL"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_what_is_wrong_is_said_with_what_would_be_right(
    evoloom: InProcess, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = evoloom("schedule", "add", *arguments, PREFECT_HOME=str(tmp_path / "none"))
    assert done.code == 2, done.err
    assert message in done.err
    assert "Traceback" not in done.err


def test_next_times_are_those_of_the_time_zone() -> None:
    times = next_times("30 6 * * *", "Asia/Kolkata")  # no summer time: 01:00 UTC all year
    assert [(time.hour, time.minute) for time in times] == [(1, 0)] * 3
    assert sorted(times) == list(times)


def test_a_time_is_told_in_the_time_zone_of_its_schedule() -> None:
    schedule = Schedule(
        "nightly", "night", "cpu", "0 0 * * *", "Europe/Berlin", False, "s.duckdb", 1, (), None
    )
    assert _local(datetime(2026, 11, 27, 23, tzinfo=UTC), schedule) == "2026-11-28 00:00 CET"


def test_each_store_has_a_limit_of_its_own() -> None:
    assert limit_name(Path("/a/s.duckdb")) != limit_name(Path("/b/s.duckdb"))
    assert not set("/%&<>") & set(limit_name(Path("/a/s.duckdb")))
