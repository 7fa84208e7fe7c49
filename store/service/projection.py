"""Takes seed tasks and seed sets over from the service's database into DuckDB, what is new of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow

from pipeline.errors import EvoloomError
from store.database import transaction
from store.run_directory import parse_utc
from store.service.database import service_path

_TASKS = """
SELECT id, number, name, instruction, is_classification, submitted_by, submitted_at, retracted_at
FROM seed_tasks WHERE revision > ? AND revision <= ? ORDER BY number
"""
_INSTANCES = """
SELECT t.id, item.key, json_extract(item.value, '$[0]'), json_extract(item.value, '$[1]')
FROM seed_tasks AS t, json_each(t.instances) AS item
WHERE t.revision > ? AND t.revision <= ? ORDER BY t.number, item.key
"""
_SETS = """
SELECT s.name, m.ordinal, m.seed_task_id, s.created_by, s.created_at
FROM seed_sets AS s JOIN seed_set_members AS m ON m.name = s.name
WHERE s.revision > ? AND s.revision <= ? ORDER BY s.number, m.ordinal
"""
_TABLES: dict[str, tuple[str, str, dict[str, pyarrow.DataType]]] = {
    "pool_seed_tasks": (
        _TASKS, "seed_task_id",
        {"seed_task_id": pyarrow.string(), "number": pyarrow.int64(), "name": pyarrow.string(),
         "instruction": pyarrow.string(), "is_classification": pyarrow.bool_(),
         "submitted_by": pyarrow.string(), "submitted_at": pyarrow.timestamp("us"),
         "retracted_at": pyarrow.timestamp("us")},
    ),
    "pool_seed_instances": (
        _INSTANCES, "seed_task_id",
        {"seed_task_id": pyarrow.string(), "index": pyarrow.int32(), "input": pyarrow.string(),
         "output": pyarrow.string()},
    ),
    "seed_sets": (
        _SETS, "name",
        {"name": pyarrow.string(), "ordinal": pyarrow.int32(), "seed_task_id": pyarrow.string(),
         "created_by": pyarrow.string(), "created_at": pyarrow.timestamp("us")},
    ),
}  # fmt: skip


class ServiceUnreadableError(EvoloomError):
    """Raised when the service's database cannot be read."""


def project_service(connection: duckdb.DuckDBPyConnection, store_path: Path) -> int:
    """Apply what has changed in the service's database; returns how many rows were written.

    A database that is another than before (its revision is lower) is taken over from its start.

    Raises:
        ServiceUnreadableError: the service's database cannot be read.
    """
    path = service_path(store_path)
    if not path.exists():
        return 0
    try:
        # Not `mode=ro`: a reader of a WAL database has to be able to make its index again.
        with closing(sqlite3.connect(path, timeout=10.0, isolation_level=None)) as service:
            service.execute("BEGIN")  # one state of it for all tables
            return _apply(connection, service)
    except sqlite3.Error as exc:
        raise ServiceUnreadableError(f"{path}: cannot be read: {exc}") from exc


def _apply(connection: duckdb.DuckDBPyConnection, service: sqlite3.Connection) -> int:
    if service.execute("PRAGMA user_version").fetchone()[0] == 0:
        return 0  # being made at this moment
    (now,) = service.execute("SELECT number FROM revision").fetchone()
    row = connection.execute("SELECT max(revision) FROM service_watermark").fetchone()
    before = row[0] if row and row[0] is not None else 0
    if now == before:
        return 0
    with transaction(connection):
        if now < before:
            before = 0
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table}")
        written = 0
        for table, (query, key, schema) in _TABLES.items():
            rows = service.execute(query, (before, now)).fetchall()
            if rows:
                _replace(connection, table, key, _arrow(rows, schema))
            written += len(rows)
        connection.execute("DELETE FROM service_watermark")
        connection.execute("INSERT INTO service_watermark VALUES (?)", [now])
    return written


def _replace(
    connection: duckdb.DuckDBPyConnection, table: str, key: str, rows: pyarrow.Table
) -> None:
    connection.register("changed", rows)
    connection.execute(f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM changed)")
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM changed")
    connection.unregister("changed")


def _arrow(rows: list[tuple[Any, ...]], schema: dict[str, pyarrow.DataType]) -> pyarrow.Table:
    columns = dict(zip(schema, zip(*rows, strict=True), strict=True))
    arrays = []
    for name, kind in schema.items():
        values: Any = columns[name]
        if pyarrow.types.is_timestamp(kind):
            values = [parse_utc(value) for value in values]
        elif pyarrow.types.is_boolean(kind):
            values = [bool(value) for value in values]
        arrays.append(pyarrow.array(values, kind))
    return pyarrow.Table.from_arrays(arrays, names=list(schema))
