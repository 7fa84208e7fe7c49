"""The tree that an instruction stands in, read from the published snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from pipeline.errors import UsageError
from store.snapshot import open_snapshot

_MOST_SHOWN = 10
_MOST_LISTED = 100
_ID_LENGTH = 8


@dataclass(frozen=True, slots=True)
class LineageNode:
    """An instruction in a tree; `level` counts from the root, which is 0. `input` is the first
    instance's of a source instruction: it is evolved with the text."""

    id: str
    parent_id: str | None
    level: int
    run_id: str
    stage: str
    position: tuple[int, ...]
    text: str
    state: str
    reason: str | None
    operator: str | None
    round: int | None
    difficulty: int | None
    input: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """A whole tree, each node before its children, and the ids of the nodes that are meant.

    It is a list because it may be deeper than Python recurses.
    """

    nodes: Sequence[LineageNode]
    meant: frozenset[str]


def read_lineage(store_path: Path, wanted: str) -> Lineage:
    """The whole tree that an instruction stands in.

    Args:
        wanted: an id or the first eight digits of one or more, an address `RUN STAGE/POSITION`, or
            the instruction's text, whole or in part.

    Raises:
        UsageError: nothing is meant, or instructions of several trees; the message lists some.
    """
    with open_snapshot(store_path) as connection:
        found = _find(connection, wanted)
        roots = set(_roots(connection, [row[0] for row in found[:_MOST_LISTED]]))
        if len(roots) > 1 or len(found) > _MOST_LISTED:
            raise UsageError(_ambiguous(wanted, found))
        return Lineage(_tree(connection, roots.pop()), frozenset(row[0] for row in found))


def tree_of(connection: duckdb.DuckDBPyConnection, instruction_id: str) -> list[LineageNode]:
    """The whole tree that the instruction with an id stands in, each node before its children."""
    (root, *_) = _roots(connection, [instruction_id])
    return _tree(connection, root)


_Row = tuple[Any, ...]
_EXACT = "run_id || ' ' || stage || '/' || array_to_string(position, '.') = ?"
_CONDITIONS = ("starts_with(id, lower(?))", _EXACT, "text = ?", "contains(lower(text), lower(?))")


def _find(connection: duckdb.DuckDBPyConnection, wanted: str) -> list[_Row]:
    """(id, text, run id, state) of what is meant: exactly, before what merely contains it."""
    for number, condition in enumerate(_CONDITIONS):
        if not wanted.strip() or (number == 0 and len(wanted) < _ID_LENGTH):
            continue
        rows = connection.execute(
            f"SELECT id, text, run_id, state FROM instructions WHERE {condition} "
            "ORDER BY run_id, stage = 'evolve', position",
            [wanted],
        ).fetchall()
        if rows:
            return rows
    raise UsageError(
        f"no instruction in the store is meant by {wanted!r}: give an id (8 digits or more), an "
        "address such as 'RUN evolve/12', or words of its text. `evoloom runs` lists the runs"
    )


def _ambiguous(wanted: str, rows: list[_Row]) -> str:
    lines = [
        f"  {row[0][:12]}  {row[2]}  {row[3]:<9} {' '.join(row[1].split())[:70]}"
        for row in rows[:_MOST_SHOWN]
    ]
    if len(rows) > _MOST_SHOWN:
        lines.append(f"  and {len(rows) - _MOST_SHOWN} more")
    head = f"{len(rows)} instructions are meant by {wanted!r}; name one by its id:"
    return "\n".join([head, *lines])


def _roots(connection: duckdb.DuckDBPyConnection, keys: list[str]) -> list[str]:
    """The topmost ancestors that the store has, of each."""
    # One step at a time: rows are looked up by their key, where a recursive query would join all.
    found: dict[str, str | None] = {}
    level = keys
    while level:
        found |= dict(_select(connection, "id, parent_id", "id", level))
        above = {found[key] for key in level if key in found}
        level = sorted(key for key in above if key is not None and key not in found)
    return [key for key, parent in found.items() if parent is None or parent not in found]


def _select(
    connection: duckdb.DuckDBPyConnection,
    columns: str,
    by: str,
    keys: Sequence[str],
    table: str = "instructions",
) -> list[_Row]:
    """The rows of a table whose column `by` is one of some."""
    rows: list[_Row] = []
    for start in range(0, len(keys), _MOST_LISTED):
        part = keys[start : start + _MOST_LISTED]
        # As a list of constants they are looked up, or compared while the column is scanned.
        marks = ", ".join("?" * len(part))
        rows += connection.execute(
            f"SELECT {columns} FROM {table} WHERE {by} IN ({marks})", part
        ).fetchall()
    return rows


_NODE = "id, parent_id, run_id, stage, position, text, state, reason, operator, round, difficulty"


def _tree(connection: duckdb.DuckDBPyConnection, root: str) -> list[LineageNode]:
    keys: dict[str, None] = {root: None}
    level = [root]
    while level:
        below = (str(row[0]) for row in _select(connection, "id", "parent_id", level))
        level = [key for key in below if key not in keys]
        keys |= dict.fromkeys(level)
    rows = sorted(
        _select(connection, _NODE, "id", list(keys)), key=lambda row: (row[2], row[4], row[0])
    )
    sources = [str(row[0]) for row in rows if row[3] == "source"]
    firsts = "(SELECT instruction_id, input FROM instances WHERE index = 0)"
    inputs: dict[str, str] = dict(_select(connection, "*", "instruction_id", sources, firsts))
    by_id = {str(row[0]): row for row in rows}
    children: dict[str, list[str]] = {}
    for row in rows:
        if row[0] != root:
            children.setdefault(row[1], []).append(row[0])
    return _in_order(root, by_id, children, inputs)


def _in_order(
    root: str,
    by_id: Mapping[str, _Row],
    children: Mapping[str, list[str]],
    inputs: Mapping[str, str],
) -> list[LineageNode]:
    nodes = []
    open_: list[tuple[str, int]] = [(root, 0)]
    while open_:
        key, level = open_.pop()
        row = by_id[key]
        rest = (*row[5:], inputs.get(key, ""))
        nodes.append(LineageNode(row[0], row[1], level, row[2], row[3], tuple(row[4]), *rest))
        open_ += [(child, level + 1) for child in reversed(children.get(key, []))]
    return nodes
