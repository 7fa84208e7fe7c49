"""A run against a simulated teacher, watched from outside: slots, CPU, memory, retries.

Run as a program, it puts what a run accepted into a task pool of its own (`memory_of_pool`).
"""

from __future__ import annotations

import bisect
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from store.spool import read_batches

SLOTS = 64
# A valid generation answer holds 7 instructions; each is classified and given instances.
REQUESTS_PER_ACCEPTED = 15 / 7
RUN = "bench"


@dataclass(frozen=True)
class Interval:
    """One request at the teacher; times in seconds of the monotonic clock, which processes share."""

    start: float
    end: float
    stage: str
    status: int
    seed: int


@dataclass
class Watched:
    """What was seen of a run: the teacher's intervals; samples of (time, CPU seconds, MiB)."""

    store: Path
    target: int
    intervals: list[Interval] = field(default_factory=list)
    samples: list[tuple[float, float, float]] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def teacher(*options: str) -> Iterator[int]:
    """A simulated teacher that answers validly and notes when; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.scripted_teacher", "--answers", "valid",
         "--slots", str(SLOTS), "--record-busy", *options],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def watch(
    folder: Path, port: int, requests: int, *settings: str, profile: Path | None = None
) -> Watched:
    """Run to the end with about so many requests."""
    watched = Watched(folder / "bench.duckdb", max(8, round(requests / REQUESTS_PER_ACCEPTED)))
    sets = [
        part for value in (f"teacher.concurrency={SLOTS}", *settings) for part in ("--set", value)
    ]
    command = ["run", "self-instruct", "--target", str(watched.target), "--seed", "1",
               "--run-id", RUN, *sets]  # fmt: skip
    _follow(watched, port, command, profile)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/busy") as answer:
        watched.intervals = [Interval(*row) for row in json.load(answer)]
    return watched


def resume(watched: Watched, port: int) -> Watched:
    """Resume the same run; the samples are the resume's."""
    resumed = Watched(watched.store, watched.target)
    _follow(resumed, port, ["resume", RUN], None)
    return resumed


def _follow(watched: Watched, port: int, command: list[str], profile: Path | None) -> None:
    environment = {**os.environ, "EVOLOOM_TEACHER__BASE_URL": f"http://127.0.0.1:{port}/v1",
                   "EVOLOOM_STORE__ANALYSE": "false"}  # fmt: skip
    how = (
        ["-m", "flows.cli"]
        if profile is None
        else ["-m", "cProfile", "-o", str(profile), "-m", "flows.cli"]
    )
    started = time.monotonic()
    run = psutil.Popen(
        [sys.executable, *how, *command, "--quiet", "--store", str(watched.store), "--json"],
        env=environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while run.poll() is None:
        with run.oneshot():
            memory_mib = run.memory_info().rss / 2**20
            watched.samples.append((time.monotonic(), sum(run.cpu_times()[:2]), memory_mib))
        time.sleep(0.25)
    watched.seconds = time.monotonic() - started
    if run.returncode != 0:
        raise SystemExit(f"the run ended with {run.returncode}")


def busy(watched: Watched) -> dict[str, Any]:
    """How much of the slots' time went to answers that became data, to surplus, to failures: from
    the first request to the last generation request."""
    intervals = watched.intervals
    first = min(item.start for item in intervals)
    last = max(item.start for item in intervals if item.stage == "generate")
    kept = _kept_shares(watched.store)
    used = wasted = failed = 0.0
    for item in intervals:
        span = max(0.0, min(item.end, last) - item.start)
        if item.status != 200:
            failed += span
            continue
        used += span * kept[item.stage]
        wasted += span * (1 - kept[item.stage])
    capacity = SLOTS * (last - first)
    return {
        "requests": len(intervals),
        "target": watched.target,
        "seconds_first_request_to_last_generation": round(last - first, 2),
        "busy_share": round(used / capacity, 4),
        "surplus_share": round(wasted / capacity, 4),
        "failed_share": round(failed / capacity, 4),
    }


def cpu(watched: Watched) -> dict[str, Any]:
    """CPU of the run per request, between its first tenth and its last: start and end left out."""
    ends = sorted(item.end for item in watched.intervals)
    low, high = ends[len(ends) // 10], ends[len(ends) * 9 // 10]
    spent = _cpu_at(watched, high) - _cpu_at(watched, low)
    done = bisect.bisect(ends, high) - bisect.bisect(ends, low)
    return {
        "completions_per_cpu_second": round(done / spent),
        "cpu_ms_per_request": round(1000 * spent / done, 2),
        "cores_used": round(spent / (high - low), 2),
        "completions_per_second": round(done / (high - low)),
    }


def _cpu_at(watched: Watched, moment: float) -> float:
    times = [at for at, _, _ in watched.samples]
    after = min(max(1, bisect.bisect(times, moment)), len(times) - 1)
    (t0, c0, _), (t1, c1, _) = watched.samples[after - 1], watched.samples[after]
    return c0 + (c1 - c0) * (moment - t0) / (t1 - t0)


def memory(watched: Watched) -> dict[str, Any]:
    """MiB resident at four moments of the run; its last second is the report's."""
    samples = watched.samples
    points = [samples[int(len(samples) * share)][2] for share in (0.25, 0.5, 0.75, 0.9)]
    return {
        "rss_mib_at_25_50_75_90_percent": [round(point) for point in points],
        "rss_mib_most": round(max(mib for _, _, mib in samples)),
    }


def memory_of_pool(watched: Watched) -> dict[str, Any]:
    """MiB that the task pool of the run takes by itself, in a process without the rest of a run."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._saturated", str(watched.store)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def _fill_pool(store: Path) -> dict[str, Any]:
    from flows.methods import method_of
    from store.run_directory import read_manifest

    run_dir = store.with_name(f"{store.name}.runs") / RUN
    manifest = read_manifest(run_dir).raw
    pool = method_of(manifest).build_machine(manifest, run_dir)._pool
    count = sum(1 for _ in _accepted(run_dir))
    marks = {round(count * share): share for share in (0.5, 0.75, 0.9)}
    process = psutil.Process()
    before = process.memory_info().rss
    points = []
    for number, (position, text) in enumerate(_accepted(run_dir), 1):
        pool.admit(position, text)
        if number in marks:
            points.append((process.memory_info().rss - before) / 2**20)
    return {"accepted": count, "pool_mib_at_50_75_90_percent": [round(mib, 1) for mib in points]}


def _accepted(run_dir: Path) -> Iterator[tuple[Any, str]]:
    for _, batch in read_batches(run_dir / "spool"):
        if batch.stream == "generate":
            for row in batch.instructions:
                if row.state != "rejected":
                    yield row.position, row.text


def first_retries(watched: Watched) -> dict[str, Any]:
    """How long after a failure the same request came again, in seconds."""
    failed: dict[int, float] = {}
    waits: list[float] = []
    for item in sorted(watched.intervals, key=lambda item: item.start):
        if item.seed in failed:
            waits.append(item.start - failed.pop(item.seed))
        if item.status != 200:
            failed[item.seed] = item.end
    waits.sort()
    return {
        "failed": sum(item.status != 200 for item in watched.intervals),
        "retry_s_median": round(waits[len(waits) // 2], 3),
        "retry_s_99_percent": round(waits[len(waits) * 99 // 100], 3),
        "retries_within_0.2_s": round(sum(wait <= 0.2 for wait in waits) / len(waits), 4),
    }


def _kept_shares(store: Path) -> dict[str, float]:
    """By the teacher's stage, the share of answers that became data."""
    kept: dict[str, list[bool]] = {"generate": [], "classify": [], "instances": []}
    run_dir = store.with_name(f"{store.name}.runs") / RUN
    admitted: dict[int, int] = {}
    surplus: dict[int, int] = {}
    for _, batch in read_batches(run_dir / "spool"):
        for row in batch.instructions:
            counts = admitted if batch.stream == "generate" else surplus
            if batch.stream == "generate" or row.state == "surplus":
                counts[row.position[0]] = counts.get(row.position[0], 0) + 1
        is_surplus = any(row.state == "surplus" for row in batch.instructions)
        if batch.stream != "generate":
            for completion in batch.completions:
                kept[completion.stage].append(not is_surplus and completion.state != "surplus")
    kept["generate"] = [surplus.get(g, 0) < count for g, count in admitted.items()]
    shares = {stage: sum(flags) / max(1, len(flags)) for stage, flags in kept.items()}
    instances = shares["instances"]
    return {**shares, "input_first": instances, "output_first": instances}


if __name__ == "__main__":
    print(json.dumps(_fill_pool(Path(sys.argv[1]))))
