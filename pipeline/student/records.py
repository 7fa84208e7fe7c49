"""What a student is trained on and evaluated with: examples, as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

Turn = tuple[str, str]
"""A user's message and its answer."""


@dataclass(frozen=True, slots=True)
class Example:
    """One instance with its instruction, as a student sees it.

    `root` is the lineage that the instruction descends from: examples of one root stay on one side
    of a split. `turns` is what was said after `output`, as (user, assistant).
    """

    instance_id: str
    root: str
    instruction: str
    input: str
    output: str
    is_classification: bool | None = None
    system: str | None = None
    turns: tuple[Turn, ...] = ()

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Example:
        """Read what `asdict` and JSON made of one."""
        return cls(**{**row, "turns": tuple((user, answer) for user, answer in row["turns"])})


def write_examples(examples: Iterable[Example]) -> bytes:
    """Examples as JSON Lines, one object a line."""
    lines = (json.dumps(asdict(example), ensure_ascii=False) for example in examples)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def read_examples(path: Path) -> list[Example]:
    """The examples of a file that `write_examples` made.

    Raises:
        UsageError: it is missing, or a line of it is no example; the message names the line.
    """
    return list(_read(path))


def _read(path: Path) -> Iterator[Example]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    for number, line in enumerate(lines, 1):
        try:
            yield Example.from_json(json.loads(line.decode("utf-8", "surrogatepass")))
        except (ValueError, TypeError, KeyError) as exc:
            raise UsageError(f"{path} line {number}: is no example: {exc}") from exc
