"""The numbered migrations of the projection and the version a file is at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata, resources
from pathlib import Path

import duckdb

from pipeline.errors import UsageError

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    """The packaged migrations, in order."""
    found = []
    for entry in resources.files("store.migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.version))


def latest_version() -> int:
    """The schema version that this evoloom writes."""
    return migrations()[-1].version


def evoloom_version() -> str:
    """The version of this evoloom; `unknown` where it runs without being installed."""
    try:
        return metadata.version("evoloom")
    except metadata.PackageNotFoundError:
        return "unknown"


def migrate(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Bring an open store to the latest version, one transaction a migration.

    Args:
        path: the file as the user knows it, for messages.

    Raises:
        UsageError: a newer evoloom wrote the store, or the file is somebody else's.
    """
    version, writer = _current(connection, path)
    latest = latest_version()
    if version > latest:
        raise UsageError(
            f"{path}: schema version {version}, written by evoloom {writer}; this is evoloom "
            f"{evoloom_version()}, which knows versions up to {latest}. Use evoloom {writer} or later, "
            "or name another store with --store"
        )
    for migration in migrations():
        if migration.version <= version:
            continue
        connection.begin()
        try:
            connection.execute(migration.sql)
            now = datetime.now(UTC).replace(tzinfo=None)
            connection.execute(
                "INSERT INTO schema_version VALUES (?, ?, ?, ?)",
                [migration.version, migration.name, evoloom_version(), now],
            )
            connection.commit()
        except BaseException:
            connection.rollback()
            raise


def _current(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[int, str]:
    tables = {
        name
        for (name,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE NOT internal"
        ).fetchall()
    }
    if not tables:
        return 0, ""
    if "schema_version" not in tables:
        raise UsageError(
            f"{path}: is a DuckDB file with tables of its own ({', '.join(sorted(tables)[:5])}), not "
            "an evoloom store; name another file with --store"
        )
    row = connection.execute(
        "SELECT version, evoloom_version FROM schema_version ORDER BY version DESC LIMIT 1"
    ).fetchone()
    return (int(row[0]), str(row[1])) if row else (0, "")
