"""A whole run against a teacher that fails in every way that passes, and what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.run_writer import PROGRESS
from tests.support import runs
from tests.support.chaotic_teacher import FAULTS, RETRY_AFTER_S
from tests.support.teachers import ROOT


@dataclass(frozen=True)
class Chaos:
    """What is done to a run. Times in seconds."""

    target: int
    probabilities: dict[str, float]
    latency: tuple[float, float]
    timeout_s: float
    concurrency: int
    outage_at: tuple[int, ...] = ()
    outage_s: float = 2.0
    seed: int = 5
    probe_interval_s: float = 0.2


SMALL = Chaos(
    target=runs.TARGET,
    probabilities={**dict.fromkeys(FAULTS, 0.04), "no_answer": 0.02},
    latency=(0.01, 1.0),
    timeout_s=6.0,
    concurrency=16,
    outage_at=(70,),
)
FULL = Chaos(
    target=400,
    probabilities={**dict.fromkeys(FAULTS, 0.03), "no_answer": 0.01},
    latency=(0.01, 30.0),
    timeout_s=45.0,
    concurrency=128,
    outage_at=(300, 1200),
    outage_s=20.0,
    probe_interval_s=1.0,
)


@dataclass
class Survival:
    """What a run went through and what was left at its end."""

    exit_code: int
    errors: str
    seconds: float
    attempts: list[dict[str, Any]]
    journaled: set[int]
    progress: list[dict[str, Any]]
    export: bytes = b""
    fates: dict[str, Counter[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.fates = {}
        for row in self.attempts:
            if row["fault"] is None:
                continue
            counts = self.fates.setdefault(row["fault"], Counter())
            if row["key"] is None:
                counts["times"] += 1
                continue
            counts["injected"] += 1
            counts["survived" if row["seed"] in self.journaled else "not needed any more"] += 1

    @property
    def whole(self) -> Counter[int]:
        """By sampling seed, which no two addresses share: answers handed over whole."""
        return Counter(row["seed"] for row in self.attempts if row["whole"])

    @property
    def maybe_lost(self) -> Counter[int]:
        """Those that may have died with their connection when an outage began."""
        return Counter(seed for row in self.attempts for seed in row.get("maybe_lost", ()))

    def paid_twice(self) -> list[int]:
        """Seeds of requests answered whole more often than once, an outage's own loss left out."""
        return [seed for seed, count in self.whole.items() if count > 1 + self.maybe_lost[seed]]

    def early_repeats(self) -> list[float]:
        """Waits, in seconds, after a 429 that were shorter than the one it asked for."""
        last: dict[str, dict[str, Any]] = {}
        early = []
        for row in self.attempts:
            if row["key"] is None:
                continue
            before = last.get(row["key"])
            if before and before["fault"] == "429" and row["at"] - before["at"] < RETRY_AFTER_S:
                early.append(row["at"] - before["at"])
            last[row["key"]] = row
        return early

    def summary(self) -> dict[str, Any]:
        """The figures."""
        lost = ("truncated", "invalid_json", "no_choices", "no_answer", "outage")
        states = [row["state"] for row in self.progress]
        return {
            "seconds": round(self.seconds, 1),
            "requests_sent": sum(row["key"] is not None for row in self.attempts),
            "answered_whole": sum(self.whole.values()),
            "journaled": len(self.journaled),
            "lost_by_the_fault_itself": sum(
                self.fates[name]["injected"] for name in lost if name in self.fates
            ),
            "paid_twice": len(self.paid_twice()),
            "repeated_before_retry_after": len(self.early_repeats()),
            "pauses": sum(
                after == "paused" != before
                for before, after in zip(["", *states], states, strict=False)
            ),
            "lowest_concurrency": min((row["concurrency"] for row in self.progress), default=0),
        }  # fmt: skip

    def table(self) -> str:
        """Faults injected and survived, for people."""
        names = ("injected", "survived", "not needed any more")
        lines = [f"{'fault':<14}" + "".join(f"{name:>22}" for name in names)]
        for fault in (*FAULTS, "outage"):
            counts = self.fates.get(fault, Counter())
            times = f" ({counts['times']} times)" if counts["times"] else ""
            lines.append(f"{fault:<14}" + "".join(f"{counts[name]:>22}" for name in names) + times)
        return "\n".join(lines)


@contextmanager
def chaotic_teacher(folder: Path, chaos: Chaos | None) -> Iterator[tuple[str, Path]]:
    """A teacher process, faultless without a chaos; its address and its log."""
    log = folder / "chaos.log"
    options = ["--chaos-log", str(log)]
    if chaos is not None:
        options += ["--faults", json.dumps(chaos.probabilities), "--chaos-seed", str(chaos.seed),
                    "--latency", *map(str, chaos.latency), "--outage-s", str(chaos.outage_s),
                    "--outage-at", *map(str, chaos.outage_at)]  # fmt: skip
    else:
        options += ["--latency", "0.001", "0.002"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.chaotic_teacher", *options],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1", log
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run_through(folder: Path, chaos: Chaos, *, faultless: bool = False) -> Survival:
    """Run `evoloom run self-instruct` as a process, from its beginning to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "evoloom.duckdb"
    with chaotic_teacher(folder, None if faultless else chaos) as (url, log):
        settings = {
            "teacher.base_url": url, "teacher.concurrency": chaos.concurrency,
            "teacher.timeout_s": chaos.timeout_s, "teacher.retry_base_s": 0.05,
            "teacher.probe_interval_s": chaos.probe_interval_s, "run.progress_interval_s": 0.1,
            "store.analyse": False,
        }  # fmt: skip
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        started = time.monotonic()
        ended = runs.evoloom(
            "run", "self-instruct", "--target", str(chaos.target), "--seed", str(runs.SEED),
            "--run-id", runs.RUN, "--store", store, "--quiet", *sets,
        )  # fmt: skip
        seconds = time.monotonic() - started
        attempts = [json.loads(line) for line in log.read_text().splitlines()]
    progress = (runs.run_path(store) / PROGRESS).read_text().splitlines()
    survival = Survival(
        ended.returncode,
        ended.stderr,
        seconds,
        attempts,
        runs.sampling_seeds(runs.journal_of(store)),
        [json.loads(row) for row in progress],
    )
    if ended.returncode == 0:
        survival.export = runs.export_bytes(store)
    return survival
