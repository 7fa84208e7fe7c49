"""The methods there are: how each makes its manifest and its machine. A new method is one entry."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Settings
from pipeline.errors import UsageError
from pipeline.run.machine import Machine
from pipeline.self_instruct import manifest as self_instruct
from pipeline.self_instruct.machine import SelfInstructMachine
from pipeline.self_instruct.plan import EarlierRun
from store.export import accepted_rows, complete_positions
from store.run_directory import find_runs, runs_directory
from store.run_rows import read_run_rows
from store.run_writer import AGAINST


@dataclass(frozen=True, slots=True)
class Method:
    """One kind of run."""

    kind: str
    build_manifest: Callable[[str, Settings, str], dict[str, Any]]
    """(run id, settings, model) to manifest."""
    build_machine: Callable[[Mapping[str, Any], Path], Machine]
    """(manifest, run directory) to a machine that has seen nothing."""


def _self_instruct_machine(manifest: Mapping[str, Any], run_dir: Path) -> Machine:
    return SelfInstructMachine(self_instruct.plan_of(manifest, read_against(run_dir)))


METHODS = {
    self_instruct.KIND: Method(
        self_instruct.KIND, self_instruct.build_manifest, _self_instruct_machine
    )
}


def method_of(manifest: Mapping[str, Any]) -> Method:
    """The method of a run.

    Raises:
        UsageError: this evoloom does not execute runs of that kind.
    """
    method = METHODS.get(manifest["kind"])
    if method is None:
        raise UsageError(
            f"run {manifest['run_id']} is of kind '{manifest['kind']}'; this evoloom executes "
            f"{', '.join(METHODS)}"
        )
    return method


def copy_against(store_path: Path, run_ids: tuple[str, ...]) -> dict[str, bytes]:
    """The instructions of earlier runs, as the file that a new run directory keeps of them.

    Raises:
        UsageError: one does not exist or is not completed.
    """
    runs_dir = runs_directory(store_path)
    find_runs(runs_dir, run_ids)
    lines = []
    for run_id in run_ids:
        rows = read_run_rows(runs_dir / run_id)
        if rows.state.state != "completed":
            raise UsageError(
                f"novelty.against: run {run_id} is {rows.state.state}; novelty can only be measured "
                f"against completed runs. `evoloom resume {run_id}` may complete it"
            )
        for instruction, _ in accepted_rows(rows, complete_positions(rows)):
            address = ".".join(map(str, instruction.position))
            lines.append(json.dumps([run_id, address, instruction.text], ensure_ascii=False))
    return {AGAINST: "".join(f"{line}\n" for line in lines).encode()} if run_ids else {}


def read_against(run_dir: Path) -> list[EarlierRun]:
    """What `copy_against` wrote into a run directory, run by run."""
    path = run_dir / AGAINST
    texts: dict[str, list[tuple[str, str]]] = {}
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            run_id, address, text = json.loads(line)
            texts.setdefault(run_id, []).append((address, text))
    return [EarlierRun(run_id, instructions) for run_id, instructions in texts.items()]
