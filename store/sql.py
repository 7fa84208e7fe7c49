"""SQL on the published snapshot: statements in, columns and rows out; nothing can be written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from pipeline.errors import UsageError
from store.snapshot import Snapshot, SnapshotReader

if TYPE_CHECKING:
    import pyarrow

ROWS_AT_ONCE = 10_000
"""Rows that are in memory together, whatever a query returns."""

_LINE = re.compile(r"LINE (\d+): (.*)\n( *\^+)")
_READ_ONLY = re.compile(r'statement of type "(\w+)" on database .* read-only mode')
_REFUSED = {
    "COPY": "writes a file; use `--out FILE` with `--format csv`, `json` or `parquet`",
    "COPY_DATABASE": "writes a database; `evoloom store backup` copies the store",
    "EXPORT": "writes files; `evoloom store backup` copies the store",
    "ATTACH": "opens another database; only the snapshot is read here, for the live file belongs to "
    "whoever writes it",
    "DETACH": "closes the snapshot",
    "LOAD": "installs or loads an extension, which would be downloaded",
    "UPDATE_EXTENSIONS": "downloads extensions",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result: its name, unlike every other of the result, and DuckDB's type."""

    name: str
    type: str


class Result:
    """What the last statement returns; it is read once, by `rows` or by `arrow`."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, query: str, source: _Source, snapshot: Snapshot
    ) -> None:
        self.snapshot = snapshot
        self._connection = connection
        self._query = query
        self._source = source

    def rows(self) -> tuple[list[Column], Iterator[list[tuple[Any, ...]]]]:
        """Columns, and rows as Python values in groups of ROWS_AT_ONCE; both need the context.

        Raises:
            UsageError: DuckDB refuses the statement, here or while rows are read.
        """
        with self._source.explain():
            cursor = self._connection.execute(self._query)
            columns = _columns([(item[0], str(item[1])) for item in cursor.description or ()])
        return columns, self._groups(cursor)

    def _groups(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
        while True:
            with self._source.explain():
                group = cursor.fetchmany(ROWS_AT_ONCE)
            if not group:
                return
            yield group

    def arrow(self) -> tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]:
        """The schema, and rows as Arrow in groups of ROWS_AT_ONCE; HUGEINT is decimal(38, 0).

        Raises:
            UsageError: DuckDB refuses the statement, here or while rows are read.
        """
        with self._source.explain():
            relation = self._connection.sql(self._query)
            named = _columns(list(zip(relation.columns, map(str, relation.types), strict=True)))
            reader = relation.to_arrow_reader(ROWS_AT_ONCE)
        names = [column.name for column in named]
        schema = reader.schema
        for index, name in enumerate(names):
            schema = schema.set(index, schema.field(index).with_name(name))
        return schema, self._batches(reader, names)

    def _batches(
        self, reader: pyarrow.RecordBatchReader, names: Sequence[str]
    ) -> Iterator[pyarrow.RecordBatch]:
        while True:
            with self._source.explain():
                batch = next(reader, None)
            if batch is None:
                return
            yield batch.rename_columns(list(names))


@dataclass(frozen=True, slots=True)
class _Source:
    """A statement's place in what the user wrote, for messages."""

    name: str
    first_line: int

    @contextmanager
    def explain(self) -> Iterator[None]:
        """Turn DuckDB's errors into ours, lines counted from the start of the user's text."""
        try:
            yield
        except duckdb.Error as exc:
            raise UsageError(self.message(exc)) from exc

    def message(self, exc: duckdb.Error) -> str:
        """What is wrong, for people."""
        text = str(exc).strip()
        if match := _READ_ONLY.search(text):
            return (
                f"{self.name}: {match[1]} writes, and the snapshot is read-only; TEMP tables, views "
                "and macros are allowed. Data come in by `evoloom run` and `evoloom import`"
            )
        text = re.sub(r"\n{2,}", "\n", _LINE.sub(self._moved, text))
        if "Table with name" in text:
            text += "\n`evoloom sql 'SHOW TABLES'` lists tables and views; docs/STORE.md says more"
        return f"{self.name}: {text}"

    def _moved(self, match: re.Match[str]) -> str:
        number = str(int(match[1]) + self.first_line - 1)
        shift = " " * (len(number) - len(match[1]))
        return f"LINE {number}: {match[2]}\n{shift}{match[3]}"


@contextmanager
def run_sql(store_path: Path, text: str, name: str = "query") -> Iterator[Result]:
    """Execute all statements but the last on the newest snapshot; the last one's result is read.

    Args:
        name: what the text is called in messages: a file's name, or `query`.

    Raises:
        UsageError: there is no statement, DuckDB refuses one, one would write, or no snapshot has
            been published yet.
    """
    with SnapshotReader(store_path) as reader, reader.current() as connection:
        statements = _statements(connection, text, name)
        for query, source in statements[:-1]:
            with source.explain():
                connection.execute(query).fetchall()
        query, source = statements[-1]
        yield Result(connection, query, source, reader.snapshot())


def _statements(
    connection: duckdb.DuckDBPyConnection, text: str, name: str
) -> list[tuple[str, _Source]]:
    whole = _Source(name, 1)
    with whole.explain():
        parsed = connection.extract_statements(text)
    if not parsed:
        raise UsageError(f'{name}: holds no statement; try `evoloom sql "SELECT * FROM runs"`')
    found = []
    end = 0
    for statement in parsed:
        kind = statement.type.name
        if kind in _REFUSED:
            raise UsageError(f"{name}: {kind} {_REFUSED[kind]}")
        # DuckDB counts a statement's lines from its own start.
        query = statement.query.strip()
        start = max(text.find(query, end), end)
        end = start + len(query)
        found.append((query, _Source(name, 1 + text.count("\n", 0, start))))
    return found


def _columns(described: Sequence[tuple[str, str]]) -> list[Column]:
    """Columns with names made unique (`id`, `id_1`): rows as objects would lose one otherwise."""
    taken = {name for name, _ in described}
    seen: set[str] = set()
    columns = []
    for name, kind in described:
        unique = name
        if name in seen:
            unique = next(f"{name}_{n}" for n in count(1) if f"{name}_{n}" not in taken)
            taken.add(unique)
        seen.add(name)
        columns.append(Column(unique, kind))
    return columns
