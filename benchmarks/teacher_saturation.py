"""How busy a run keeps its teacher: the share of slot-time in use, memory, CPU per request.

A simulated teacher (64 slots, 200 ms an answer, every stage answered validly) in a process of its
own notes when each request came and went. Busy share: slot-seconds spent on answers that became
data, from the first request to the last generation request, over slots times that time; what turned
out to be surplus counts as idle.

    python -m benchmarks.teacher_saturation [--requests 20000] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from store.spool import read_batches

SLOTS = 64
LATENCY_S = 0.2
# A valid generation answer holds 7 instructions; each is classified and given instances.
REQUESTS_PER_ACCEPTED = 15 / 7


def measure(requests: int, latency: tuple[float, float]) -> dict[str, Any]:
    """Run once; returns the figures."""
    with tempfile.TemporaryDirectory() as folder:
        teacher = subprocess.Popen(
            [sys.executable, "-m", "tests.support.scripted_teacher", "--answers", "valid",
             "--slots", str(SLOTS), "--latency", *map(str, latency), "--record-busy"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert teacher.stdout is not None
            port = int(teacher.stdout.readline())
            return _measure(Path(folder), port, round(requests / REQUESTS_PER_ACCEPTED))
        finally:
            teacher.kill()


def _measure(folder: Path, port: int, target: int) -> dict[str, Any]:
    store = folder / "bench.duckdb"
    environment = {**os.environ, "EVOLOOM_TEACHER__BASE_URL": f"http://127.0.0.1:{port}/v1"}
    started = time.monotonic()
    run = psutil.Popen(
        [sys.executable, "-m", "flows.cli", "run", "self-instruct", "--target", str(target),
         "--seed", "1", "--run-id", "bench", "--quiet", "--store", str(store), "--json",
         "--set", f"teacher.concurrency={SLOTS}"],
        env=environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    memory: list[tuple[float, float]] = []
    cpu_s = 0.0
    while run.poll() is None:
        with run.oneshot():
            memory.append((time.monotonic() - started, run.memory_info().rss / 2**20))
            cpu_s = sum(run.cpu_times()[:2])
        time.sleep(0.5)
    if run.returncode != 0:
        raise SystemExit(f"the run ended with {run.returncode}")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/busy") as answer:
        intervals = json.load(answer)
    return {**_busy(intervals, store), **_growth(memory), "target": target,
            "cpu_ms_per_request": round(1000 * cpu_s / len(intervals), 2)}  # fmt: skip


def _busy(intervals: list[list[Any]], store: Path) -> dict[str, Any]:
    first = min(start for start, _, _ in intervals)
    last = max(start for start, _, stage in intervals if stage == "generate")
    kept = _kept_shares(store)
    busy = wasted = 0.0
    for start, end, stage in intervals:
        span = max(0.0, min(end, last) - start)
        busy += span * kept[stage]
        wasted += span * (1 - kept[stage])
    capacity = SLOTS * (last - first)
    return {
        "requests": len(intervals),
        "seconds_first_request_to_last_generation": round(last - first, 2),
        "busy_share": round(busy / capacity, 4),
        "surplus_share": round(wasted / capacity, 4),
    }


def _kept_shares(store: Path) -> dict[str, float]:
    """By the teacher's stage, the share of answers that became data."""
    kept: dict[str, list[bool]] = {"generate": [], "classify": [], "instances": []}
    run_dir = store.with_name(f"{store.name}.runs") / "bench"
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


def _growth(memory: list[tuple[float, float]]) -> dict[str, Any]:
    # The last second is the ingest and the report, not the run.
    points = [memory[int(len(memory) * share)][1] for share in (0.25, 0.5, 0.75, 0.9)]
    return {"rss_mib_at_25_50_75_90_percent": [round(point) for point in points]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/teacher_saturation.json")
    )
    options = parser.parse_args()
    figures = measure(options.requests, (LATENCY_S, LATENCY_S))
    report = {
        "hardware": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "slots": SLOTS, "latency_s": LATENCY_S, "aim_busy_share": 0.95, **figures,
    }  # fmt: skip
    for name, value in report.items():
        print(f"{name:<44} {value}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
