"""Writes the result of a query: a table to be read, CSV, JSON or Parquet; at constant memory."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from store.sql import Column, Result

_CELL_WIDTH = 60
"""Columns of a terminal that a cell of a table takes at most, unless the table is wide."""
_MEASURED_ROWS = 1_000
"""Rows that a table's column widths are taken from."""
_NUMBER = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DOUBLE|FLOAT|BIGNUM|DECIMAL\(.*\))")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NEEDS_QUOTES = re.compile(r'[",\r\n]')


def write_text(result: Result, out: TextIO, file_format: str, *, wide: bool = False) -> None:
    """Write a result as text.

    CSV: NULL is nothing, an empty text is `""`, lists and structs are JSON. JSON: one array, an
    object a row and a line; numbers keep all their digits; columns of type JSON are nested.

    Args:
        file_format: `table`, `csv` or `json`.
        wide: a table's cells are not cut.

    Raises:
        UsageError: DuckDB refuses the statement.
    """
    columns, groups = result.rows()
    rows = chain.from_iterable(groups)
    lines: Iterator[str]
    if file_format == "csv":
        lines = _csv_lines(columns, rows)
    elif file_format == "json":
        lines = _json_lines(columns, rows)
    else:
        lines = _table_lines(columns, rows, None if wide else _CELL_WIDTH)
    out.writelines(lines)


def write_parquet(result: Result, out: BinaryIO) -> None:
    """Write a result as Parquet.

    Raises:
        UsageError: DuckDB refuses the statement, or Parquet has no such type.
    """
    import pyarrow as pa
    from pyarrow import parquet

    schema, batches = result.arrow()
    try:
        # A pipe has no position, which is all that PythonFile asks of it.
        with parquet.ParquetWriter(pa.PythonFile(out, "w"), schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as exc:
        raise UsageError(
            f"query: cannot be written as Parquet: {exc}. Cast the column: `column::VARCHAR`"
        ) from exc


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place to write to; on leaving without an exception it takes the name `path`, whole.

    Raises:
        UsageError: the folder is not there or cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as exc:
        raise UsageError(f"{path}: cannot be written: {exc.strerror or exc}") from exc
    finally:
        temporary.unlink(missing_ok=True)


def _csv_lines(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield ",".join(_csv_text(column.name) for column in columns) + "\n"
    for row in rows:
        yield ",".join(map(_csv, row)) + "\n"


def _csv(value: Any) -> str:
    return "" if value is None else _csv_text(_plain(value))


def _csv_text(text: str) -> str:
    if text == "" or _NEEDS_QUOTES.search(text):
        return '"' + text.replace('"', '""') + '"'
    return text


def _json_lines(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    keys = [json.dumps(column.name, ensure_ascii=False) for column in columns]
    encode: list[Callable[[Any], str]] = [
        _embedded if _is_json(column) else _json for column in columns
    ]
    separator = "[\n"
    for row in rows:
        cells = (
            f"{key}: {write(value)}" for key, write, value in zip(keys, encode, row, strict=True)
        )
        yield separator + "{" + ", ".join(cells) + "}"
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"


def _is_json(column: Column) -> bool:
    return column.type == "JSON"


def _embedded(value: str | None) -> str:
    # A line break can stand between values only, where a blank does as well.
    return "null" if value is None else value.replace("\r", " ").replace("\n", " ")


def _json(value: Any) -> str:
    """JSON of a value as DuckDB's Python client gives it; every digit of a number is kept."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # JSON has no such numbers; as text they are at least not lost.
        return repr(value) if math.isfinite(value) else json.dumps(_float(value))
    if isinstance(value, (int, Decimal)):
        return format(value, "f") if isinstance(value, Decimal) else str(value)
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(_plain(key), ensure_ascii=False)}: {_json(item)}"
                 for key, item in value.items())  # fmt: skip
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_json, value)) + "]"
    if isinstance(value, datetime):
        return f'"{value.isoformat()}"'
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> str:
    """A value as text, as DuckDB itself would show it; lists and structs as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (list, tuple, Mapping)):
        return _json(value)
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return "".join(f"\\x{byte:02X}" for byte in value)
    return str(value)


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value) if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def _table_lines(
    columns: Sequence[Column], rows: Iterator[Sequence[Any]], most: int | None
) -> Iterator[str]:
    """Columns as wide as their first rows need; later rows may stick out up to `most`."""
    from rich.cells import cell_len, set_cell_size

    def cell(value: Any) -> str:
        text = "NULL" if value is None else _plain(value)
        shown = _UNSEEN.sub(lambda match: _escaped(match[0]), text)
        if most is None or cell_len(shown[: most + 1]) <= most:
            return shown
        return set_cell_size(shown[:most], most - 1).rstrip() + "…"

    def line(cells: Sequence[str]) -> str:
        padded = (
            " " * (width - cell_len(text)) + text
            if is_number
            else text + " " * (width - cell_len(text))
            for text, width, is_number in zip(cells, widths, numbers, strict=True)
        )
        return "  ".join(padded).rstrip() + "\n"

    if [column.name for column in columns] == ["explain_key", "explain_value"]:
        yield from (f"{_plain(row[1])}\n" for row in rows)
        return
    numbers = [_NUMBER.fullmatch(column.type) is not None for column in columns]
    names = [cell(column.name) for column in columns]
    first = [[cell(value) for value in row] for row in islice(rows, _MEASURED_ROWS)]
    widths = [max(map(cell_len, column)) for column in zip(names, *first, strict=True)]
    yield line(names)
    yield line(["-" * width for width in widths])
    counted = 0
    for cells in chain(first, ([cell(value) for value in row] for row in rows)):
        counted += 1
        yield line(cells)
    yield f"({counted} row{'' if counted == 1 else 's'})\n"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
