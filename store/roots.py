"""Lineage roots: the instruction that another descends from, through its run and the runs before.

A split by roots keeps an instruction and everything that was evolved from it on one side.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import EvoloomError
from pipeline.records import Address, InstructionRow, row_id
from store.frames import parent_id
from store.run_directory import read_manifest
from store.run_rows import RunRows, read_run_rows

_KINDS_WITH_PARENTS = frozenset({"evol-instruct", "dataset"})


class Roots:
    """Finds roots. Runs that were evolved from are read once, when an instruction leads there."""

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._instructions: dict[str, Mapping[str, InstructionRow]] = {}
        self._found: dict[str, str] = {}

    def add(self, run: RunRows) -> None:
        """Make known what was read of a run already."""
        self._instructions[run.manifest.run_id] = run.instructions

    def root_of(self, run_id: str, row: InstructionRow) -> str:
        """The id of the root's row: of a dataset version's instruction as the version says it, else
        the last ancestor that a run directory still knows, which may be the instruction itself."""
        path: list[str] = []
        root: str | None = None
        key = row_id(run_id, row.stage, row.position)
        while root is None:
            if (root := self._found.get(key)) is not None:
                continue
            path.append(key)
            above = parent_id(run_id, row)
            # No instruction is its own ancestor; a damaged run directory is no reason to hang.
            if row.root is not None or above is None or above in path:
                root = row.root or key
                continue
            if row.stage in ("source", "dataset"):
                run_id = str(row.parent).rpartition(" ")[0]
            parent = self._of_run(run_id).get(above)
            if parent is None:
                root = above
            else:
                key, row = above, parent
        self._found.update(dict.fromkeys(path, root))
        return root

    def _of_run(self, run_id: str) -> Mapping[str, InstructionRow]:
        if run_id not in self._instructions:
            self._instructions[run_id] = self._read(run_id)
        return self._instructions[run_id]

    def _read(self, run_id: str) -> Mapping[str, InstructionRow]:
        run_dir = self._runs_dir / run_id
        if not (run_dir / "manifest.json").exists():
            return {}
        try:
            if read_manifest(run_dir).kind not in _KINDS_WITH_PARENTS:
                return {}
            return read_run_rows(run_dir).instructions
        except EvoloomError:
            return {}  # its own export says what is wrong with it; the parent's id stands for it


def origin_of(run_id: str, row: InstructionRow) -> str:
    """How an instruction taken from a run names it as its parent: `RUN STAGE/POSITION`."""
    return f"{run_id} {Address(row.stage, row.position)}"
