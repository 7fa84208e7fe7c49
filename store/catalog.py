"""The schema as it describes itself: what a freshly migrated database says of its tables and views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb

from store.schema import migrate


@dataclass(frozen=True, slots=True)
class CatalogColumn:
    """A column; `is_key` of a table's primary key."""

    name: str
    type: str
    comment: str
    is_key: bool
    is_nullable: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or a view."""

    name: str
    is_view: bool
    comment: str
    columns: tuple[CatalogColumn, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key, in the table's order."""
        return tuple(column.name for column in self.columns if column.is_key)


@dataclass(frozen=True, slots=True)
class Reference:
    """`source`.`column` names a row of `target`, or rows where `target_column` is only a part of its
    key; the schema declares no foreign keys (0001_initial.sql says why)."""

    source: str
    column: str
    target: str
    target_column: str


_TARGETS = {
    "run_id": ("runs", "run_id"),
    "seed_id": ("seed_tasks", "seed_id"),
    "seed_task_id": ("pool_seed_tasks", "seed_task_id"),
    "completion_id": ("completions", "id"),
    "instruction_id": ("instructions", "id"),
    "parent_id": ("instructions", "id"),
    "root_id": ("instructions", "id"),
    "pool_id": ("instructions", "id"),
    "text_id": ("verb_nouns", "text_id"),
    "item_id": ("evaluation_items", "id"),
    "parser_version": ("parsers", "parser_version"),
}
"""What a column of this name refers to, in whatever table it stands."""


def read_catalog() -> tuple[Relation, ...]:
    """Tables, then views, each in the order of the migrations that make them."""
    with duckdb.connect(":memory:") as connection:
        migrate(connection, Path(":memory:"))
        rows = connection.execute(
            """
            SELECT table_name, FALSE, comment, table_oid FROM duckdb_tables() WHERE NOT internal
            UNION ALL
            SELECT view_name, TRUE, comment, view_oid FROM duckdb_views() WHERE NOT internal
            ORDER BY 2, 4
            """
        ).fetchall()
        return tuple(
            Relation(name, is_view, comment, _columns(connection, name))
            for name, is_view, comment, _ in rows
        )


def find_references(relations: tuple[Relation, ...]) -> tuple[Reference, ...]:
    """What the columns of the tables refer to, told by their names.

    Raises:
        ValueError: a column `..._id` of whose name nobody has said what it refers to.
    """
    found = []
    for table in relations:
        for column in () if table.is_view else table.columns:
            target = _TARGETS.get(column.name)
            if target is None and column.name.endswith("_id"):
                raise ValueError(f"{table.name}.{column.name}: add what it refers to to _TARGETS")
            if target is not None and target != (table.name, column.name):
                found.append(Reference(table.name, column.name, *target))
    return tuple(found)


def _columns(connection: duckdb.DuckDBPyConnection, relation: str) -> tuple[CatalogColumn, ...]:
    keys = connection.execute(
        "SELECT constraint_column_names FROM duckdb_constraints() "
        "WHERE table_name = ? AND constraint_type = 'PRIMARY KEY'",
        [relation],
    ).fetchone()
    key = set(keys[0]) if keys else set()
    rows = connection.execute(
        "SELECT column_name, data_type, comment, is_nullable FROM duckdb_columns() "
        "WHERE table_name = ? ORDER BY column_index",
        [relation],
    ).fetchall()
    return tuple(
        CatalogColumn(name, type_, comment, name in key, nullable)
        for name, type_, comment, nullable in rows
    )
