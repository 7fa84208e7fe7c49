"""How busy a run keeps its teacher, and what that costs: slots, CPU, memory, retries, replay.

A simulated teacher (64 slots, every stage answered validly) in a process of its own notes when each
request came and went. Busy share: slot-seconds spent on answers that became data, from the first
request to the last generation request, over slots times that time; what turned out to be surplus, and
what failed, counts as idle.

    steady   20,000 requests, 200 ms each
    faults   20,000 requests, 1% of which fail, 60 to 600 ms each; when each is sent again
    cpu      20,000 requests of 20 ms, more than a core can handle: completions per second of CPU
    profile  2,000 of them under a profiler: where the CPU's time goes, by library
    memory   100,000 requests of 20 ms: memory along the way
    replay   the journal of `memory`, replayed as after a SIGKILL at the run's end

    python -m benchmarks.teacher_saturation [--part NAME ...] [--requests N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import pstats
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks._saturated import (
    RUN,
    SLOTS,
    Watched,
    busy,
    cpu,
    first_retries,
    memory,
    memory_of_pool,
    resume,
    teacher,
    watch,
)

SIZES = {"steady": 20_000, "faults": 20_000, "cpu": 20_000, "profile": 2_000,
         "memory": 100_000, "replay": 100_000}  # fmt: skip
FAST = ("--latency", "0.02", "0.02")


def steady(folder: Path, requests: int) -> dict[str, Any]:
    """Answers that all take as long."""
    with teacher("--latency", "0.2", "0.2") as port:
        watched = watch(folder, port, requests)
    return {"latency_s": 0.2, "aim_busy_share": 0.95, **busy(watched), **cpu(watched),
            **memory(watched)}  # fmt: skip


def faults(folder: Path, requests: int) -> dict[str, Any]:
    """One in a hundred fails, and some answers take ten times as long as others."""
    with teacher(
        "--latency", "0.06", "0.6", "--fault-rate", "0.01", "--fault-status", "503"
    ) as port:
        watched = watch(folder, port, requests)
    return {"latency_s": [0.06, 0.6], "aim_busy_share": 0.95, **busy(watched),
            **first_retries(watched), **cpu(watched)}  # fmt: skip


def cpu_of_a_request(folder: Path, requests: int) -> dict[str, Any]:
    """As fast as the run can."""
    with teacher(*FAST) as port:
        watched = watch(folder, port, requests)
    return {"latency_s": 0.02, "aim_completions_per_cpu_second": 500,
            "requests": len(watched.intervals), **cpu(watched)}  # fmt: skip


def profile(folder: Path, requests: int) -> dict[str, Any]:
    """The main thread's own time by library, in shares of what was not waiting."""
    with teacher(*FAST) as port:
        watched = watch(folder, port, requests, profile=folder / "profile")
    shares: Counter[str] = Counter()
    busiest: Counter[str] = Counter()
    # typeshed does not know of `stats`, which is what the pages of pstats print.
    stats: dict[Any, Any] = pstats.Stats(str(folder / "profile")).stats  # type: ignore[attr-defined]
    for (file, _, function), (_, _, own_s, _, callers) in stats.items():
        if "select.epoll" in function or "method 'acquire' of '_thread" in function:
            continue  # waiting
        if file == "~":  # a builtin: its time is its callers'
            for (caller_file, _, _), caller in callers.items():
                shares[_library(caller_file)] += caller[2]
            continue
        shares[_library(file)] += own_s
        busiest[f"{_library(file)}: {function}"] += own_s
    total = sum(shares.values())
    return {
        "requests": len(watched.intervals),
        "share_by_library": {name: round(own / total, 3) for name, own in shares.most_common(16)},
        "busiest_functions": {name: round(own / total, 3) for name, own in busiest.most_common(12)},
    }


def _library(file: str) -> str:
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    if file.startswith(str(Path.cwd())):
        return "evoloom " + "/".join(Path(file).relative_to(Path.cwd()).parts[:2])
    name = Path(file).parent.name if "lib" in parts else file
    return f"python {name if not name.startswith('python') else Path(file).stem}"


def long_run(folder: Path, requests: int, parts: set[str]) -> dict[str, dict[str, Any]]:
    """Memory over a long run; then its journal is replayed."""
    report: dict[str, dict[str, Any]] = {}
    with teacher(*FAST) as port:
        watched = watch(folder, port, requests)
        asked = len(watched.intervals)
        if "memory" in parts:
            report["memory"] = {
                "requests": asked,
                "seconds": round(watched.seconds),
                **memory(watched),
                **memory_of_pool(watched),
            }
        if "replay" in parts:
            as_after_a_kill(watched)
            replayed = resume(watched, port)
            report["replay"] = {
                "aim_seconds": 60, "journaled": asked, "seconds": round(replayed.seconds, 1),
                "cpu_seconds": round(replayed.samples[-1][1], 1), **memory(replayed),
            }  # fmt: skip
    return report


def as_after_a_kill(watched: Watched) -> None:
    """All is journaled, and the state is what a run has that was killed then."""
    state = watched.store.with_name(f"{watched.store.name}.runs") / RUN / "state.json"
    value = {**json.loads(state.read_text()), "state": "running", "finished_at": None}
    state.write_text(json.dumps(value))


PARTS = {"steady": steady, "faults": faults, "cpu": cpu_of_a_request, "profile": profile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--requests", type=int, help="in each part, in place of its own number")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    for part in options.part:
        if part in PARTS:
            with tempfile.TemporaryDirectory() as folder:
                write(options.out, part, PARTS[part](Path(folder), options.requests or SIZES[part]))
    if long := set(options.part) - set(PARTS):
        with tempfile.TemporaryDirectory() as folder:
            reports = long_run(Path(folder), options.requests or SIZES["memory"], long)
            for part, figures in reports.items():
                write(options.out, part, figures)


def write(out: Path, part: str, figures: dict[str, Any]) -> None:
    report = {
        "hardware": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "slots": SLOTS,
        **figures,
    }
    print(f"-- {part}")
    for name, value in report.items():
        print(f"{name:<44} {value}")
    out.mkdir(parents=True, exist_ok=True)
    name = "teacher_saturation.json" if part == "steady" else f"teacher_saturation_{part}.json"
    (out / name).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
