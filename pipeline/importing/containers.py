"""Rows of JSON Lines, a JSON array, CSV and Parquet, read one after the other from an open stream.

A row that cannot be read comes as a `BadRow` in its place, so that nothing vanishes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from pipeline.importing.json_array import read_array
from pipeline.importing.records import BadRow, BrokenFileError, Container, SourceRow

MAX_ROW = 64 * 2**20
"""Longest row in bytes of JSON Lines, in characters of a JSON array; memory is bounded by it."""
_MAX_CSV_FIELD = 16 * 2**20
_PARQUET_ROWS = 256
_PARQUET_BUFFER = 2**18
"""Bytes of a column read at once; without it a whole row group is."""
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_DELIMITERS = ",;\t"


def open_rows(
    stream: IO[bytes], container: Container, known_columns: Sequence[str] = ()
) -> Iterator[SourceRow | BadRow]:
    """Rows of an open file.

    Args:
        stream: not compressed; of Parquet it must be seekable.
        known_columns: column names by which the delimiter of a CSV file is told.

    Raises:
        BrokenFileError: what follows cannot be read, or it is not such a file at all.
    """
    if container == "json_lines":
        return _read_json_lines(stream)
    if container == "json_array":
        return _read_json_array(stream)
    if container == "csv":
        return _read_csv(stream, known_columns)
    return _read_parquet(stream)


def raw_text(row: SourceRow) -> str:
    """A row's text as it is kept aside."""
    if isinstance(row.raw, bytes):
        return row.raw.decode("utf-8", "surrogateescape").rstrip("\r\n")
    if row.raw is not None:
        return row.raw
    return json.dumps(row.fields, ensure_ascii=False, default=str)


def _read_json_lines(stream: IO[bytes]) -> Iterator[SourceRow | BadRow]:
    number = 0
    while line := stream.readline(MAX_ROW + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) > MAX_ROW:
            while not line.endswith(b"\n") and (line := stream.readline(MAX_ROW)):
                pass
            yield BadRow(number, "too_long", f"longer than {MAX_ROW:,} bytes", "")
        elif line.strip():
            yield _json_line(number, line)


def _json_line(number: int, line: bytes) -> SourceRow | BadRow:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as exc:
        found = BadRow(number, "not_utf8", f"byte {exc.start + 1} of the line is not UTF-8", "")
    except (ValueError, RecursionError) as exc:
        if b"\0" in line:
            found = BadRow(number, "null_byte", "holds a null byte", "")
        else:
            found = BadRow(number, "not_json", f"not valid JSON: {exc}", "")
    else:
        if isinstance(value, dict):
            return SourceRow(number, value, line)
        found = BadRow(number, "wrong_type", f"an object is expected, found {kind_of(value)}", "")
    raw = raw_text(SourceRow(number, {}, line))
    return BadRow(found.number, found.reason, found.detail, raw)


def _read_json_array(stream: IO[bytes]) -> Iterator[SourceRow | BadRow]:
    for number, value, text in read_array(stream, MAX_ROW):
        if _ESCAPED_BYTE.search(text):
            yield BadRow(number, "not_utf8", "holds bytes that are not UTF-8", text)
        elif isinstance(value, dict):
            yield SourceRow(number, value, text)
        else:
            yield BadRow(
                number, "wrong_type", f"an object is expected, found {kind_of(value)}", text
            )


def _read_csv(stream: IO[bytes], known_columns: Sequence[str]) -> Iterator[SourceRow | BadRow]:
    csv.field_size_limit(_MAX_CSV_FIELD)
    text = io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="")
    try:
        first = text.readline(_MAX_CSV_FIELD)
        while first and not first.strip():
            first = text.readline(_MAX_CSV_FIELD)
        delimiter = _delimiter(first, known_columns)
        lines = _Lines(first, text)
        # Strict: a stray quote is reported, rather than read as something nobody wrote.
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = _header(reader)
        number = 0
        while True:
            lines.taken.clear()
            try:
                values = next(reader, None)
            except csv.Error as exc:
                number += 1
                raw = "".join(lines.taken).rstrip("\r\n")
                yield BadRow(number, "wrong_columns", f"not valid CSV: {exc}", raw)
                continue
            if values is None:
                return
            if values:  # a blank line is no row
                number += 1
                yield _csv_row(number, header, values, delimiter)
    finally:
        text.detach()


class _Lines:
    """Physical lines; those of the row that is being read are remembered for reports."""

    def __init__(self, first: str, rest: Iterable[str]) -> None:
        self._first = first
        self._rest = iter(rest)
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line, self._first = self._first or next(self._rest), ""
        self.taken.append(line)
        return line


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as exc:
        raise BrokenFileError(f"the header is not valid CSV: {exc}") from exc
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise BrokenFileError(f"the header names a column twice: {', '.join(map(repr, twice))}")
    return header


def _csv_row(
    number: int, header: list[str], values: list[str], delimiter: str
) -> SourceRow | BadRow:
    raw = delimiter.join(values)
    if len(values) != len(header):
        detail = f"{len(values)} column(s), the header has {len(header)}"
        return BadRow(number, "wrong_columns", detail, raw)
    if _ESCAPED_BYTE.search(raw):
        return BadRow(number, "not_utf8", "holds bytes that are not UTF-8", raw)
    return SourceRow(number, dict(zip(header, values, strict=True)))


def _delimiter(header: str, known_columns: Sequence[str]) -> str:
    """The delimiter that gives most columns whose names are known, then most columns."""

    def columns(delimiter: str) -> tuple[int, int]:
        names = [name.strip(' "\r\n').lower() for name in header.split(delimiter)]
        return sum(name in known_columns for name in names), len(names)

    return max(_DELIMITERS, key=columns)


def _read_parquet(stream: IO[bytes]) -> Iterator[SourceRow | BadRow]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        file = parquet.ParquetFile(stream, buffer_size=_PARQUET_BUFFER, pre_buffer=False)
        for batch in file.iter_batches(_PARQUET_ROWS, use_threads=False):
            try:
                rows = batch.to_pylist()
            except UnicodeDecodeError:
                rows = [_parquet_row(batch, index) for index in range(batch.num_rows)]
            for fields in rows:
                number += 1
                if fields is None:
                    yield BadRow(number, "not_utf8", "holds bytes that are not UTF-8", "")
                else:
                    yield SourceRow(number, fields)
    except (pyarrow.ArrowException, OSError) as exc:
        raise BrokenFileError(f"not a Parquet file that can be read: {exc}") from exc


def _parquet_row(batch: Any, index: int) -> Any:
    try:
        return batch.slice(index, 1).to_pylist()[0]
    except UnicodeDecodeError:
        return None


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
