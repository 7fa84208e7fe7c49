"""Self-Instruct runs for tests: started in this process or as the command line, and looked into."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.runs import Listener, RunResult, resume_run, start_run
from pipeline.config import resolve
from pipeline.records import Address, Completion, JournalEntry
from store.export import export_run
from store.journal import read_entries
from store.run_directory import RunState, read_state, runs_directory
from store.run_rows import RunRows, read_run_rows
from store.run_writer import JOURNAL
from tests.support.teachers import ROOT, TeacherProcess

RUN = "night"
TARGET = 24
SEED = 11
QUICK: dict[str, Any] = {
    "teacher.retry_base_s": 0.01,
    "teacher.probe_interval_s": 0.05,
    "run.progress_interval_s": 0.05,
    "store.analyse": False,
}
"""Settings that keep a faulty teacher, and the parser's start, from making a test wait."""


def start(store: Path, teacher: TeacherProcess, *, run_id: str = RUN, **flags: Any) -> RunResult:
    """Start a run in this process; `flags` are dotted settings with `__` for the dot."""
    values = {
        "run.target": TARGET,
        "run.seed": SEED,
        "teacher.base_url": teacher.url,
        "store.path": store,
        **QUICK,
        **dotted(flags),
    }
    return start_run("self-instruct", resolve(values, flags_only=True).settings, run_id)


def evolve(
    store: Path, teacher: TeacherProcess, source: str | Path, *, run_id: str = RUN, **flags: Any
) -> RunResult:
    """Start an evolution in this process; `flags` as for `start`."""
    values = {
        "evol_instruct.source": str(source),
        "run.seed": SEED,
        "teacher.base_url": teacher.url,
        "store.path": store,
        **QUICK,
        **dotted(flags),
    }
    return start_run("evol-instruct", resolve(values, flags_only=True).settings, run_id)


def resume(
    store: Path,
    *,
    run_id: str = RUN,
    give_up: tuple[str, ...] = (),
    wait: bool = False,
    listener: Listener | None = None,
    **flags: Any,
) -> RunResult:
    """Resume a run in this process."""
    addresses = frozenset(Address.parse(text) for text in give_up)
    return resume_run(run_id, store, dotted(flags), give_up=addresses, wait=wait, listener=listener)


def dotted(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as dotted settings."""
    return {key.replace("__", "."): value for key, value in flags.items()}


def command(*arguments: str | Path, module: str = "flows.cli") -> list[str]:
    """The command line's own, as a process is started with it."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def run_command(store: Path, teacher: TeacherProcess, **flags: Any) -> list[str | Path]:
    """Arguments of `evoloom run self-instruct` for the same run that `start` starts."""
    values = {**QUICK, "teacher.base_url": teacher.url, **dotted(flags)}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return ["run", "self-instruct", "--target", str(TARGET), "--seed", str(SEED), "--run-id", RUN,
            "--store", store, *sets]  # fmt: skip


def evoloom(
    *arguments: str | Path, module: str = "flows.cli", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end; what it makes is not analysed unless `env` says so."""
    env = {"EVOLOOM_STORE__ANALYSE": "false", **os.environ, **(env or {})}
    return subprocess.run(
        command(*arguments, module=module), cwd=ROOT, env=env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def run_path(store: Path, run_id: str = RUN) -> Path:
    """The run directory."""
    return runs_directory(store) / run_id


def export_bytes(store: Path, run_id: str = RUN) -> bytes:
    """The run's export, as it is now."""
    out = store.parent / f"{run_id}.export.jsonl"
    export_run(run_path(store, run_id), "alpaca", out)
    return out.read_bytes()


def state_of(store: Path, run_id: str = RUN) -> RunState:
    """What has become of the run."""
    return read_state(run_path(store, run_id))


def journal_of(store: Path, run_id: str = RUN) -> list[JournalEntry]:
    """Its journal, a torn tail left out."""
    return list(read_entries(run_path(store, run_id) / JOURNAL))


def rows_of(store: Path, run_id: str = RUN) -> RunRows:
    """Its rows, from the run directory."""
    return read_run_rows(run_path(store, run_id))


def sampling_seeds(entries: list[JournalEntry]) -> set[int]:
    """The seeds sent with journaled requests: the teacher's log knows an address by them."""
    return {entry.parameters["seed"] for entry in entries}


def tokens_of(entries: list[JournalEntry]) -> int:
    """Tokens that a cap counts for these entries."""
    total = 0
    for entry in entries:
        if isinstance(entry.outcome, Completion):
            usage = entry.outcome.usage
            total += usage.total if usage else entry.reserved_tokens
    return total


def copy_store(store: Path, folder: Path) -> Path:
    """A store and its run directories again, in another folder."""
    shutil.copytree(store.parent, folder, symlinks=True)
    return folder / store.name


def classify_prompt_of(store: Path, which: int = 0) -> tuple[Address, str]:
    """The address that classified an accepted instruction, and a regular expression for its
    prompt and no other's."""
    accepted = [row for row in rows_of(store).instructions.values() if row.state == "accepted"]
    row = accepted[which]
    return Address("classify", row.position), re.escape(row.text) + r"\s+Is it classification\?$"
