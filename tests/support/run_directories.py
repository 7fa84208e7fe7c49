"""Plausible run directories without a teacher: rows are drawn, the spool is written by its writer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.records import (
    Batch,
    BlockerRow,
    CompletionRow,
    InstanceRow,
    InstanceState,
    InstructionRow,
    Position,
    ShotRecord,
    Usage,
)
from store.checked_lines import write_atomically
from store.run_directory import runs_directory, spool_path
from store.spool import Spool

SEEDS = [
    {
        "id": f"seed_{number}",
        "name": f"task_{number}",
        "instruction": f"Describe the {number}th thing that comes to mind.",
        "instances": [{"input": "" if number % 3 == 0 else f"thing {number}", "output": "It is."}],
        "is_classification": number % 4 == 0,
    }
    for number in range(12)
]
# What real teachers send: other scripts, an emoji cut in half, quotes, tabs, a NUL.
_TEXTS = [
    "把句子翻译成英文",
    'Say "yes"\tor \\no',
    "Explain \ud83d briefly",
    "Sort\nthese lines",
    "A\0b",
]
_REJECTIONS = ["length_in_words", "keyword", "punctuation", "not_ascii"]
STATE_AT = "2026-11-20T23:15:00+00:00"


@dataclass
class SyntheticRun:
    """A run to be written: `positions` generation positions, accepted up to `target`."""

    run_id: str
    positions: int = 40
    target: int = 20
    seed: int = 7
    window: int = 4
    has_settled: bool = True
    """False leaves the last `window` positions pending, as an interruption does."""
    manifest: dict[str, Any] = field(default_factory=dict)

    def batches(self) -> list[Batch]:
        """All batches in the order a run would write them: settling trails generation."""
        return list(self._batches())

    def _batches(self) -> Iterator[Batch]:
        rng = random.Random(f"{self.seed}/rows")
        admitted: list[tuple[Position, str]] = []
        waiting: list[tuple[Position, str]] = []
        accepted = 0
        for g in range(self.positions):
            pool = [place for place, _ in admitted if place[0] <= g - self.window]
            batch, fresh = self._generate(rng, g, pool)
            yield batch
            admitted += fresh
            waiting += fresh
            is_last = g == self.positions - 1
            while waiting and (
                waiting[0][0][0] <= g - self.window or (is_last and self.has_settled)
            ):
                place, text = waiting.pop(0)
                settled, is_accepted = self._settle(rng, place, text, accepted < self.target)
                accepted += is_accepted
                yield settled

    def _generate(
        self, rng: random.Random, g: int, pool: list[Position]
    ) -> tuple[Batch, list[tuple[Position, str]]]:
        machine = rng.sample(pool, min(2, len(pool)))
        shots = [ShotRecord(slot, "machine", f"{at[0]}.{at[1]}") for slot, at in enumerate(machine)]
        shots += [ShotRecord(slot, "seed", f"seed_{slot}") for slot in range(len(shots), 8)]
        is_cut = rng.random() < 0.15
        completion = self._completion(
            rng, "generate", (g,), "length" if is_cut else None, tuple(shots)
        )
        if is_cut:
            return Batch("generate", (g,), (completion,)), []
        rows: list[InstructionRow] = []
        fresh: list[tuple[Position, str]] = []
        for i in range(rng.randint(0, 6)):
            text = rng.choice(_TEXTS) if rng.random() < 0.2 else f"Write about topic {g} and {i}."
            if rng.random() < 0.4:
                rows.append(self._rejected(rng, (g, i), text))
                continue
            rows.append(
                InstructionRow("generate", (g, i), text, "pending", score=rng.random() * 0.7)
            )
            fresh.append(((g, i), text))
        return Batch("generate", (g,), (completion,), tuple(rows)), fresh

    def _rejected(self, rng: random.Random, place: Position, text: str) -> InstructionRow:
        if rng.random() < 0.5:
            reason = rng.choice(_REJECTIONS)
            return InstructionRow("generate", place, text, "rejected", reason, evidence="draw")
        number = rng.randrange(12)
        blocker = BlockerRow("seed", f"seed_{number}", str(SEEDS[number]["instruction"]))
        return InstructionRow(
            "generate", place, text, "rejected", "not_novel", score=0.9, blocker=blocker
        )

    def _settle(
        self, rng: random.Random, place: Position, text: str, is_wanted: bool
    ) -> tuple[Batch, bool]:
        is_classification = rng.random() < 0.3
        completions = [self._completion(rng, "classify", place)]
        if rng.random() < 0.1:
            completions.append(self._refusal(place))
            row = InstructionRow(
                "generate", place, text, "without_instances", "refused:context_length",
                is_classification=is_classification,
            )  # fmt: skip
            return Batch("settle", place, tuple(completions), (row,)), False
        completions.append(self._completion(rng, "instances", place))
        state: InstanceState = "accepted" if is_wanted else "surplus"
        instances = []
        for index in range(rng.randint(1, 4)):
            output = f"an answer {index} to {place}"
            if index and rng.random() < 0.3:
                instances.append(
                    InstanceRow("generate", place, index, "", "x:", "rejected", "ends_in_colon")
                )
            else:
                input_text = "" if rng.random() < 0.5 else f"input {index} 例"
                instances.append(InstanceRow("generate", place, index, input_text, output, state))
        row = InstructionRow("generate", place, text, state, is_classification=is_classification)
        return Batch("settle", place, tuple(completions), (row,), tuple(instances)), is_wanted

    def _completion(
        self, rng: random.Random, stage: str, place: Position, reason: str | None = None,
        shots: tuple[ShotRecord, ...] = (),
    ) -> CompletionRow:  # fmt: skip
        usage = (
            None if rng.random() < 0.05 else Usage(rng.randint(50, 900), rng.randint(1, 200), 40)
        )
        return CompletionRow(
            stage, place, 0, "discarded" if reason else "used", reason, "raw text\n9. more",
            "length" if reason else "stop", usage, 1024, rng.random(), STATE_AT, "teacher", shots,
        )  # fmt: skip

    def _refusal(self, place: Position) -> CompletionRow:
        return CompletionRow(
            "instances", place, 0, "discarded", "refused:context_length", None, None, None, 1024,
            0.1, STATE_AT, "teacher",
        )  # fmt: skip

    def manifest_json(self) -> dict[str, Any]:
        """The manifest as the run would write it."""
        return {
            "format": 1, "run_id": self.run_id, "kind": "self-instruct",
            "created_at": "2026-11-20T22:00:00+00:00", "run_seed": self.seed, "target": self.target,
            "window": self.window, "ceiling": 10, "rederived_from": None, "seeds": SEEDS,
            "config": {"teacher": {"model": "teacher"}}, "novelty_against": [], **self.manifest,
        }  # fmt: skip


def write_run(
    store_path: Path, run: SyntheticRun, *, state: str = "completed", batches: int | None = None,
    **state_fields: Any,
) -> Path:  # fmt: skip
    """Write the run directory, or go on writing it, up to a number of batches; its path."""
    run_dir = runs_directory(store_path) / run.run_id
    run_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(run_dir / "manifest.json", json.dumps(run.manifest_json()).encode())
    append_batches(run_dir, run.batches()[:batches])
    write_state(run_dir, state, **state_fields)
    return run_dir


def append_batches(run_dir: Path, batches: Sequence[Batch]) -> None:
    """Write batches as the run does: those that the spool has are skipped."""
    spool = Spool(spool_path(run_dir))
    spool.write(batches)
    spool.close()


def write_state(run_dir: Path, state: str, **fields: Any) -> None:
    """Write `state.json`."""
    value = {
        "state": state, "reason": None, "updated_at": STATE_AT, "elapsed_s": 12.5,
        "started_at": STATE_AT, "finished_at": STATE_AT if state == "completed" else None,
        "ingest_pending": False, **fields,
    }  # fmt: skip
    write_atomically(run_dir / "state.json", json.dumps(value).encode())
