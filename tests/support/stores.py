"""What tests ask of a DuckDB store as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

# Of the file, not of the runs in it: when it was migrated, when it was published.
_ABOUT_THE_FILE = {"schema_version", "snapshot"}


def dump(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All projected rows of a database that nobody has open, table by table, in one fixed order."""
    with duckdb.connect(database, read_only=True) as connection:
        names = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        tables = sorted({str(name) for (name,) in names} - _ABOUT_THE_FILE)
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()
            for table in tables
        }
