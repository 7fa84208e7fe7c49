"""`evoloom rederive`: the answers of a run under other settings, without asking anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.execution import Published, publish_store
from flows.methods import method_of
from flows.runs import new_run_id
from pipeline.config import Settings, dump, operational_keys, resolve
from pipeline.errors import UsageError
from pipeline.records import Address, JournalEntry
from pipeline.run.journal import ChangedRequestError, verify
from pipeline.run.machine import Machine
from store.journal import read_entries
from store.run_directory import find_runs, read_manifest, refuse_pruned, runs_directory
from store.run_writer import AGAINST, JOURNAL, SOURCE, HeldRun, create_run

# What was copied into the run directory when the run was started.
_COPIED = ("novelty.against", "seeds.file", "seeds.shots_directory", "prompts.directory",
           "evol_instruct.source", "evol_instruct.limit")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rederived:
    """The new run, which is final, and the instructions that lacked an answer."""

    run_id: str
    left_out: tuple[str, ...]
    reused: int
    published: Published


def rederive(
    source_id: str, store_path: Path, changes: Mapping[str, Any], run_id: str | None = None
) -> Rederived:
    """Derive a run again under other settings.

    Generation completions are taken by position whatever was asked; downstream ones by address and
    the request's hash without its sampling seed. Nothing is sent.

    Raises:
        UsageError: no such run; a change that is unknown, or one that derives nothing.
        PrunedRunError: the run has no journal any more.
    """
    find_runs(runs_directory(store_path), [source_id])
    source_dir = runs_directory(store_path) / source_id
    source = read_manifest(source_dir).raw
    method_of(source)  # before anything is written
    refuse_pruned(source_dir, "be derived again")
    manifest = _changed_manifest(source, changes, run_id or new_run_id(source["kind"]))
    files = {
        name: (source_dir / name).read_bytes()
        for name in (AGAINST, SOURCE)
        if (source_dir / name).exists()
    }
    answers = {entry.address: entry for entry in read_entries(source_dir / JOURNAL)}
    refuse_pruned(source_dir, "be derived again")  # meanwhile, so that nothing was read
    create_run(store_path, manifest, files)
    with HeldRun(store_path, manifest["run_id"]) as run:
        run.write_state("running")
        machine = method_of(manifest).build_machine(manifest, run.path)
        reused = asyncio.run(_replay(run, machine, answers))
        run.spool.write([*machine.drain(), *machine.finish([], partial=True)])
        run.spool.sync()
        left_out = tuple(machine.left_out())
        run.write_state("completed", f"rederived from {source_id}")
    return Rederived(manifest["run_id"], left_out, reused, publish_store(store_path))


def _changed_manifest(
    source: Mapping[str, Any], changes: Mapping[str, Any], run_id: str
) -> dict[str, Any]:
    useless = [key for key in changes if key in operational_keys()]
    if useless:
        raise UsageError(f"setting '{useless[0]}' does not change what is derived from an answer")
    for key in changes:
        # Who was asked is past; an answer is of the model that gave it.
        if key in _COPIED or key.startswith("teacher.stages."):
            raise UsageError(
                f"setting '{key}' cannot be changed when deriving again; a new run can"
            )
    settings = resolve(changes, base=source["config"], flags_only=True).settings
    before = Settings(**source["config"])
    manifest = deepcopy(dict(source))
    manifest.update(
        run_id=run_id,
        created_at=_now(),
        rederived_from=source["run_id"],
        config=dump(settings),
    )
    if source["target"] is not None:
        manifest["target"] = settings.run.target
        if (settings.run.target, settings.run.ceiling) != (before.run.target, before.run.ceiling):
            manifest["ceiling"] = settings.run.ceiling * settings.run.target
        if "run.window" in changes and settings.run.window:
            manifest["window"] = settings.run.window
    if "run.seed" in changes and settings.run.seed is not None:
        manifest["run_seed"] = settings.run.seed
    return manifest


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="milliseconds")


async def _replay(run: HeldRun, machine: Machine, answers: Mapping[Address, JournalEntry]) -> int:
    reused = 0
    while machine.finished() is None and (addresses := machine.ready()):
        for address in addresses:
            entry = answers.get(address)
            if entry is None or not _usable(machine, entry):
                machine.lacks(address)
                continue
            await run.journal.append(entry)
            machine.apply(entry)
            reused += 1
        run.spool.write(machine.drain())
    return reused


def _usable(machine: Machine, entry: JournalEntry) -> bool:
    if entry.address.stage == "generate":
        return True
    try:
        verify(entry, machine.request(entry.address), with_seed=False)
    except ChangedRequestError:
        return False
    return True
