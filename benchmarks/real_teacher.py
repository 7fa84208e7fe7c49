"""Generation throughput through evoloom against the same requests sent raw, with the real engine.

A run is executed as a process of its own; its requests are then made again from its manifest and
journal, and sent by a bare loop (asyncio and httpx2, the same bodies in the same order, the same
concurrency) in a process of its own. The two take turns, several times, on one engine. The raw
requests carry a `cache_salt`: what the runs left in the engine's prefix cache is not theirs, while
what earlier raw rounds left is, as it is for the runs. The first round warms up and does not count.

Completions are kept short, so that the few that this small model never ends do not make up a round.

Two ratios: of whole runs, whose end has fewer requests to send than slots, and of the time until nine
tenths of the answers are there. The hit rate of the prefix cache is that of each stage of the runs.

    python -m benchmarks.real_teacher [--target 40] [--rounds 3] [--concurrency 8] [--max-tokens 200]
                                      [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.methods import method_of
from pipeline.config import load_settings
from pipeline.records import Completion, JournalEntry
from pipeline.run.requests import TeacherRequest
from pipeline.teacher.engine import lease_engine
from store.journal import read_entries
from store.run_directory import read_manifest, runs_directory
from store.run_writer import JOURNAL

AIM = 0.95
_TAIL = 0.1
_STAGES = ("generate", "classify", "instances")
_LONG_STAGES = ("generation", "input_first", "output_first")


@contextlib.contextmanager
def teacher(base_url: str | None) -> Iterator[str]:
    """The address of the engine; of another endpoint where one is given."""
    if base_url is not None:
        yield base_url
        return
    with lease_engine(load_settings().engine, on_progress=print) as engine:
        yield engine.base_url


def run_evoloom(folder: Path, base_url: str, number: int, options: argparse.Namespace) -> Path:
    """Execute a run; returns its directory."""
    store = folder / "bench.duckdb"
    # A window as wide as the slots: a small target's own would leave some of them idle.
    sets = {"teacher.base_url": base_url, "teacher.concurrency": options.concurrency,
            "run.window": max(2, options.target // 8, options.concurrency),
            "store.analyse": "false"}  # fmt: skip
    sets |= {f"self_instruct.{stage}.completions.max_tokens": options.max_tokens
             for stage in _LONG_STAGES}  # fmt: skip
    flags = [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    run_id = f"round-{number}"
    command = [sys.executable, "-m", "flows.cli", "run", "self-instruct", "--target",
               str(options.target), "--seed", str(1000 + number), "--run-id", run_id,
               "--store", str(store), "--quiet", "--json", *flags]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the run ended with {done.returncode}")
    return runs_directory(store) / run_id


def requests_of(run_dir: Path) -> list[tuple[TeacherRequest, JournalEntry]]:
    """The requests of a run with their outcomes, in the order in which they were sent."""
    manifest = read_manifest(run_dir).raw
    machine = method_of(manifest).build_machine(manifest, run_dir)
    journal = {entry.address: entry for entry in read_entries(run_dir / JOURNAL)}
    found = []
    while addresses := machine.ready():
        for address in addresses:
            if (entry := journal.get(address)) is not None:
                found.append((machine.request(address), entry))
                machine.apply(entry)
        machine.drain()
    return sorted(found, key=lambda pair: _answered_at(pair[1]) - pair[1].latency_s)


def _answered_at(entry: JournalEntry) -> float:
    return datetime.fromisoformat(entry.answered_at).timestamp()


def throughput(answers: list[tuple[float, int]], started: float) -> dict[str, float]:
    """Completion tokens a second, from (time of an answer, its tokens)."""
    answers = sorted(answers)
    part = answers[: max(1, round(len(answers) * (1 - _TAIL)))]
    return {
        "tokens": sum(tokens for _, tokens in answers),
        "seconds": round(answers[-1][0] - started, 2),
        "tokens_per_s": round(sum(t for _, t in answers) / (answers[-1][0] - started), 2),
        "before_tail_tokens_per_s": round(sum(t for _, t in part) / (part[-1][0] - started), 2),
    }


def throughput_of_run(pairs: list[tuple[TeacherRequest, JournalEntry]]) -> dict[str, float]:
    """From the journal: the first request's sending to the last answer."""
    answers = [
        (_answered_at(entry), entry.outcome.usage.completion_tokens)
        for _, entry in pairs
        if isinstance(entry.outcome, Completion) and entry.outcome.usage is not None
    ]
    started = min(_answered_at(entry) - entry.latency_s for _, entry in pairs)
    return throughput(answers, started)


def send_raw(
    folder: Path, base_url: str, pairs: list[tuple[TeacherRequest, JournalEntry]], concurrency: int
) -> dict[str, float]:
    """Send the same bodies from a process of its own."""
    bodies = folder / "bodies.json"
    rows = [
        ["/completions" if isinstance(request.prompt, str) else "/chat/completions",
         {**request.body(), "cache_salt": "raw"}]
        for request, _ in pairs
    ]  # fmt: skip
    bodies.write_text(json.dumps(rows))
    command = [sys.executable, "-m", "benchmarks.real_teacher", "--raw", str(bodies),
               "--base-url", base_url, "--concurrency", str(concurrency)]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


async def raw(rows: list[Any], base_url: str, concurrency: int) -> dict[str, float]:
    """The bare loop: as many workers as slots, each sending the next body."""
    import httpx2

    waiting = iter(rows)
    answers: list[tuple[float, int]] = []
    limits = httpx2.Limits(max_connections=concurrency)
    async with httpx2.AsyncClient(limits=limits, timeout=600) as client:

        async def work() -> None:
            for path, body in waiting:
                answer = await client.post(f"{base_url}{path}", json=body)
                answer.raise_for_status()
                answers.append((time.monotonic(), answer.json()["usage"]["completion_tokens"]))

        started = time.monotonic()
        await asyncio.gather(*(work() for _ in range(concurrency)))
    return throughput(answers, started)


def hit_rates(pairs: list[tuple[TeacherRequest, JournalEntry]]) -> dict[str, float]:
    """Cached tokens over prompt tokens of each stage."""
    rates = {}
    for stage in _STAGES:
        usages = [
            entry.outcome.usage
            for request, entry in pairs
            if request.address.stage == stage
            and isinstance(entry.outcome, Completion)
            and entry.outcome.usage is not None
        ]
        prompt = sum(usage.prompt_tokens for usage in usages)
        rates[stage] = round(sum(usage.cached_tokens for usage in usages) / max(1, prompt), 4)
    return rates


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds; returns the figures."""
    rounds = []
    with tempfile.TemporaryDirectory() as name, teacher(options.base_url) as base_url:
        folder = Path(name)
        for number in range(options.rounds + 1):
            pairs = requests_of(run_evoloom(folder, base_url, number, options))
            found: dict[str, Any] = {
                "requests": len(pairs),
                "evoloom": throughput_of_run(pairs),
                "raw": send_raw(folder, base_url, pairs, options.concurrency),
                "prefix_cache_hit_rate": hit_rates(pairs),
            }
            found |= {
                "ratio": _ratio(found, "tokens_per_s"),
                "ratio_before_tail": _ratio(found, "before_tail_tokens_per_s"),
            }
            print(
                f"round {number}{' (warm-up)' if number == 0 else ''}: {json.dumps(found)}",
                flush=True,
            )
            rounds.append(found)
    counted = rounds[1:]
    return {
        "hardware": f"{os.cpu_count()} cores",
        "engine": "the bundled model" if options.base_url is None else options.base_url,
        "target": options.target,
        "concurrency": options.concurrency,
        "max_tokens": options.max_tokens,
        "aim_ratio": AIM,
        "ratio_median": round(statistics.median(item["ratio"] for item in counted), 4),
        "ratio_before_tail_median": round(
            statistics.median(item["ratio_before_tail"] for item in counted), 4
        ),
        "evoloom_tokens_per_s": _median(counted, "evoloom"),
        "raw_tokens_per_s": _median(counted, "raw"),
        "prefix_cache_hit_rate_cold": rounds[0]["prefix_cache_hit_rate"],
        "prefix_cache_hit_rate": {
            stage: round(statistics.mean(i["prefix_cache_hit_rate"][stage] for i in counted), 4)
            for stage in _STAGES
        },
        "rounds": rounds,
    }


def _ratio(found: dict[str, Any], name: str) -> float:
    return float(round(found["evoloom"][name] / found["raw"][name], 4))


def _median(rounds: list[dict[str, Any]], who: str) -> float:
    return float(round(statistics.median(item[who]["tokens_per_s"] for item in rounds), 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--target", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3, help="that count; one more warms up")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=200, help="longest completion")
    parser.add_argument("--base-url", help="another endpoint than the bundled model's engine")
    parser.add_argument("--raw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/real_teacher.json"))
    options = parser.parse_args()
    if options.raw is not None:
        rows = json.loads(options.raw.read_text())
        figures = asyncio.run(raw(rows, options.base_url, options.concurrency))
        print(json.dumps(figures))
        return
    report = measure(options)
    for name, value in report.items():
        if name != "rounds":
            print(f"{name:<30} {value}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
