"""The tree that an instruction stands in, read from the published snapshot."""

from __future__ import annotations

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
    """An instruction in a tree; `children` in the order of their positions."""

    id: str
    run_id: str
    stage: str
    position: tuple[int, ...]
    text: str
    state: str
    reason: str | None
    operator: str | None
    round: int | None
    difficulty: int | None
    children: tuple[LineageNode, ...]


def read_lineage(store_path: Path, wanted: str) -> tuple[LineageNode, frozenset[str]]:
    """The whole tree that an instruction stands in, and the ids in it that are meant.

    Args:
        wanted: an id or the first eight digits of one or more, an address `RUN STAGE/POSITION`, or
            the instruction's text, whole or in part.

    Raises:
        UsageError: nothing is meant, or instructions of several trees; the message lists some.
    """
    with open_snapshot(store_path) as connection:
        found = _find(connection, wanted)
        roots = {_root(connection, row[0]) for row in found[:_MOST_LISTED]}
        if len(roots) > 1 or len(found) > _MOST_LISTED:
            raise UsageError(_ambiguous(wanted, found))
        return _tree(connection, roots.pop()), frozenset(row[0] for row in found)


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


def _root(connection: duckdb.DuckDBPyConnection, key: str) -> str:
    while above := connection.execute(
        "SELECT parent.id FROM instructions AS child "
        "JOIN instructions AS parent ON parent.id = child.parent_id WHERE child.id = ?",
        [key],
    ).fetchone():
        key = str(above[0])
    return key


def _tree(connection: duckdb.DuckDBPyConnection, root: str) -> LineageNode:
    rows = connection.execute(
        """
        WITH RECURSIVE tree AS (
          SELECT id FROM instructions WHERE id = ?
          UNION ALL
          SELECT child.id FROM tree JOIN instructions AS child ON child.parent_id = tree.id
        )
        SELECT id, parent_id, run_id, stage, position, text, state, reason, operator, round,
               difficulty
        FROM instructions WHERE id IN (SELECT id FROM tree)
        ORDER BY run_id, position
        """,
        [root],
    ).fetchall()
    by_id = {row[0]: row for row in rows}
    children: dict[str, list[str]] = {}
    for row in rows:
        if row[0] != root:
            children.setdefault(row[1], []).append(row[0])

    def node(key: str) -> LineageNode:  # as deep as there are rounds
        row = by_id[key]
        below = tuple(node(child) for child in children.get(key, ()))
        return LineageNode(
            row[0], row[2], row[3], tuple(row[4]), row[5], row[6], row[7], row[8], row[9], row[10],
            below,
        )  # fmt: skip

    return node(root)
