"""Prometheus metrics of single runs, from the last record of each one's `progress.jsonl`.

Only runs that are going on, or were an hour ago, have series, so that a store of a thousand nights
costs a scrape as little as one of ten, and Prometheus no more series than there is news.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from store.run_writer import PROGRESS
from store.service.runs_index import IndexedRun, RunsIndex, is_at_work, last_progress

SHOWN_FOR = timedelta(hours=1)
"""How long a run's last values can be scraped after its end."""
_UNENDED = ("running", "paused", "queued")

# (metric, what it says, the record's field); those of a stage may be missing from older records.
_OF_STAGES = (
    ("requests", "Requests with an outcome, those of earlier executions of the run included.",
     "requests"),
    ("prompt_tokens", "Tokens of prompts.", "prompt_tokens"),
    ("cached_tokens", "Tokens of prompts that the teacher had in its prefix cache.", "cached_tokens"),
    ("completion_tokens", "Tokens of completions.", "completion_tokens"),
    ("cost", "Money spent, in the currency of the settings' prices.", "cost"),
)  # fmt: skip
_COUNTED = (
    ("accepted", "What the run counts towards its target: instructions, judgements or answers.",
     "accepted"),
    ("retries", "Requests sent again after a failure of the teacher or the network.", "retries"),
    ("replayed", "Answers taken from the journal when the run was resumed.", "replayed"),
)  # fmt: skip
_GAUGES = (
    ("run_target", "What `accepted` is to reach; no series where there is no target.", "target"),
    ("run_concurrency", "Requests that may be in flight now.", "concurrency"),
    ("run_concurrency_limit", "The most that may be: the setting teacher.concurrency.",
     "concurrency_limit"),
    ("run_elapsed_seconds", "Seconds of work, over all executions of the run.", "elapsed_s"),
    ("run_remaining_seconds", "Seconds of work that are probably left.", "remaining_s"),
    ("run_done_ratio", "Share of the run that is done, 0 to 1.", "share_done"),
    ("run_tokens_per_second", "Tokens a second: of completions, in a training of examples.",
     "tokens_per_s"),
    ("training_step", "Optimizer steps done.", "step"),
    ("training_steps", "Optimizer steps to do.", "steps"),
    ("training_epoch", "Passes over the training examples done.", "epoch"),
    ("training_loss", "Loss of the latest steps, nats a token.", "loss"),
    ("training_held_out_loss", "Loss on what is held out, nats a token, when last measured.",
     "held_out_loss"),
)  # fmt: skip
_RUN = ("run", "kind")


class RunMetrics:
    """A collector of the runs of one store; may be used from several threads."""

    def __init__(self, runs: RunsIndex) -> None:
        self._runs = runs
        self._lock = threading.Lock()
        self._records: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {}

    def collect(self) -> Iterator[Metric]:
        """The metrics of every run that is going on or ended lately."""
        now = datetime.now(UTC).replace(tzinfo=None)
        _, runs = self._runs.all()
        shown = [(run, state) for run in runs if (state := self._state(run, now)) is not None]
        records = self._read([run for run, _ in shown])
        yield _of_states(shown)
        yield _of_records("run_progress_timestamp_seconds", "When the run last said how far it is.",
                          [(run, _timestamp(record)) for run, record in records])  # fmt: skip
        for name, says, field in _GAUGES:
            yield _of_records(name, says, [(run, record.get(field)) for run, record in records])
        for name, says, field in _COUNTED:
            counter = CounterMetricFamily(f"evoloom_run_{name}", says, labels=_RUN)
            for run, record in records:
                _add(counter, (run.run_id, run.kind), record.get(field))
            yield counter
        yield from _of_stages(records)
        rejected = CounterMetricFamily(
            "evoloom_run_rejected", "What was made and not accepted.", labels=(*_RUN, "reason")
        )
        for run, record in records:
            for reason, count in _object(record.get("rejected")).items():
                _add(rejected, (run.run_id, run.kind, reason), count)
        yield rejected

    def _state(self, run: IndexedRun, now: datetime) -> str | None:
        """The run's state as it is; None for a run that has no series."""
        folder = self._runs.path(run.run_id)
        if run.state in _UNENDED:
            if is_at_work(folder):
                return run.state
            # It was killed, or never began; when is known by what it wrote last.
            stamp = _stamp(folder / PROGRESS)
            at = datetime.fromtimestamp(stamp[0] / 1e9, UTC).replace(tzinfo=None) if stamp else None
            return "interrupted" if at is not None and now - at <= SHOWN_FOR else None
        ended = run.finished_at or run.updated_at
        return run.state if ended is not None and now - ended <= SHOWN_FOR else None

    def _read(self, runs: Sequence[IndexedRun]) -> list[tuple[IndexedRun, dict[str, Any]]]:
        """The last record of each run that has one; read again only where the file has grown."""
        found = []
        with self._lock:
            known, self._records = self._records, {}
            for run in runs:
                folder = self._runs.path(run.run_id)
                stamp = _stamp(folder / PROGRESS)
                before = known.get(run.run_id)
                if stamp is None:
                    continue
                record = before[1] if before and before[0] == stamp else last_progress(folder)
                if record is not None:
                    self._records[run.run_id] = (stamp, record)
                    found.append((run, record))
        return found


def _of_states(shown: Sequence[tuple[IndexedRun, str]]) -> Metric:
    states = GaugeMetricFamily(
        "evoloom_run_state", "1 for the state that a run is in.", labels=(*_RUN, "state")
    )
    for run, state in shown:
        states.add_metric((run.run_id, run.kind, state), 1)
    return states


def _of_records(name: str, says: str, values: Sequence[tuple[IndexedRun, Any]]) -> Metric:
    gauge = GaugeMetricFamily(f"evoloom_{name}", says, labels=_RUN)
    for run, value in values:
        _add(gauge, (run.run_id, run.kind), value)
    return gauge


def _of_stages(records: Sequence[tuple[IndexedRun, Mapping[str, Any]]]) -> Iterator[Metric]:
    labels = (*_RUN, "stage")
    in_flight = GaugeMetricFamily(
        "evoloom_run_requests_in_flight",
        "Requests that are being answered, or whose answers are on their way into the journal.",
        labels=labels,
    )
    known = GaugeMetricFamily(
        "evoloom_run_requests_known", "Requests that are known to be needed, those done included.",
        labels=labels,
    )  # fmt: skip
    for run, record in records:
        for stage, counts in _object(record.get("stages")).items():
            _add(in_flight, (run.run_id, run.kind, stage), _object(counts).get("in_flight"))
            _add(known, (run.run_id, run.kind, stage), _object(counts).get("known"))
    yield in_flight
    yield known
    for name, says, field in _OF_STAGES:
        counter = CounterMetricFamily(f"evoloom_run_{name}", says, labels=labels)
        for run, record in records:
            for stage, value in _by_stage(record, field).items():
                _add(counter, (run.run_id, run.kind, stage), value)
        yield counter


def _by_stage(record: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """A field by stage; under `all` where the record is of before it was counted by stage."""
    stages = _object(record.get("stages"))
    of_stages = {stage: _object(counts).get(field) for stage, counts in stages.items()}
    if any(value is not None for value in of_stages.values()):
        return of_stages
    if field == "requests":
        return {stage: _object(counts).get("done") for stage, counts in stages.items()}
    return {"all": record.get(field)}


def _add(
    family: CounterMetricFamily | GaugeMetricFamily, labels: Sequence[str], value: Any
) -> None:
    if isinstance(value, int | float):
        family.add_metric(labels, value)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _timestamp(record: Mapping[str, Any]) -> float | None:
    try:
        return datetime.fromisoformat(str(record.get("at"))).timestamp()
    except ValueError:
        return None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
