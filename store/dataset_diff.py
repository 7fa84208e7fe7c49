"""What differs between two datasets, or runs: instructions by text, instances by what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from store.dataset_rows import instance_key
from store.exporting.rows import accepted_rows, complete_positions
from store.run_rows import read_run_rows

_Instance: TypeAlias = tuple[str, str, str | None, str | None]
_Asked: TypeAlias = tuple[str, str | None]
_Dataset: TypeAlias = dict[str, Counter[_Instance]]


@dataclass(frozen=True, slots=True)
class ChangedOutput:
    """An instruction and input that both have, answered differently."""

    instruction: str
    input: str
    outputs_a: tuple[str, ...]
    outputs_b: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatasetDiff:
    """Instructions and instances of A and B. An instance is (instruction, input, output, system
    message, further turns) and counts as often as it occurs."""

    instructions_a: int
    instructions_b: int
    instances_a: int
    instances_b: int
    instructions_in_both: int
    instances_in_both: int
    only_a: tuple[str, ...]
    """Instruction texts that only A has, in its order."""
    only_b: tuple[str, ...]
    changed: tuple[ChangedOutput, ...]

    @property
    def is_equal(self) -> bool:
        """Whether both hold the same instances, whatever their order."""
        return self.instances_in_both == self.instances_a == self.instances_b


def diff_datasets(dir_a: Path, dir_b: Path) -> DatasetDiff:
    """Compare what two run directories have accepted.

    Raises:
        EvoloomError: one cannot be read.
    """
    a, b = _read(dir_a), _read(dir_b)
    return DatasetDiff(
        instructions_a=len(a),
        instructions_b=len(b),
        instances_a=sum(map(Counter.total, a.values())),
        instances_b=sum(map(Counter.total, b.values())),
        instructions_in_both=len(a.keys() & b.keys()),
        instances_in_both=sum((rows & b[text]).total() for text, rows in a.items() if text in b),
        only_a=tuple(text for text in a if text not in b),
        only_b=tuple(text for text in b if text not in a),
        changed=tuple(_changed(a, b)),
    )


def _changed(a: _Dataset, b: _Dataset) -> Iterator[ChangedOutput]:
    for text, rows in a.items():
        if text not in b or rows == b[text]:
            continue
        only_a, only_b = _answers(rows - b[text]), _answers(b[text] - rows)
        for asked, outputs in only_a.items():
            if asked in only_b:
                yield ChangedOutput(text, asked[0], tuple(outputs), tuple(only_b[asked]))


def _answers(rows: Counter[_Instance]) -> dict[_Asked, list[str]]:
    answers: dict[_Asked, list[str]] = {}
    for (given, output, system, _), count in rows.items():
        answers.setdefault((given, system), []).extend([output] * count)
    return answers


def _read(run_dir: Path) -> _Dataset:
    run = read_run_rows(run_dir)
    found: _Dataset = {}
    for instruction, instances in accepted_rows(run, complete_positions(run)):
        found.setdefault(instruction.text, Counter()).update(map(instance_key, instances))
    return found
