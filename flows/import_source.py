"""Files to import: opened, decompressed, recognised."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.importing import FORMATS, BadRow, Format, SourceRow, detecting
from pipeline.importing.containers import open_rows
from pipeline.importing.formats import ALIASES
from pipeline.importing.records import Container

_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_MAGIC = (b"\xff\xfe", b"\xfe\xff")
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How files are read: `format` None to tell it from the rows, `mapping` from our fields to
    the file's columns; `is_strict` refuses a file with a bad row."""

    format: str | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    is_strict: bool = False


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a file was found to be. `columns` gives the file's column of fields that are named
    otherwise; `seen` are the fields of the first rows, `left_out` those of them that the format has
    no use for."""

    container: Container
    format: Format
    columns: Mapping[str, str]
    seen: tuple[str, ...]
    left_out: tuple[str, ...]
    rows: Iterator[SourceRow | BadRow]

    @property
    def unit(self) -> str:
        """What the rows' numbers count."""
        return unit_of(self.container)


def unit_of(container: Container) -> str:
    """What the numbers of a container's rows count."""
    return "line" if container == "json_lines" else "row"


def check_options(options: ImportOptions) -> None:
    """Check what can be checked without a file.

    Raises:
        UsageError: the format is not known, or has no such field.
    """
    if options.format is not None and options.format not in FORMATS:
        raise UsageError(f"format {options.format!r} is not known; known: {', '.join(FORMATS)}")
    known = FORMATS[options.format].fields if options.format else _all_fields()
    for name in options.mapping:
        if name not in known:
            what = f"format {options.format}" if options.format else "any format"
            raise UsageError(
                f"--map {name}={options.mapping[name]}: {name!r} is no field of {what}; known: "
                f"{', '.join(known)}. The field comes first: --map instruction=question"
            )


def _all_fields() -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for kind in FORMATS.values() for name in kind.fields))


def describe_file(path: Path) -> dict[str, Any]:
    """What the manifest says of a file: its name, not where it lay.

    Raises:
        UsageError: it is no file, or cannot be read.
    """
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "no such file"
        raise UsageError(f"{path}: {what}; name a file to import")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return {"name": path.name, "bytes": file.tell(), "sha256": digest}
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror or exc}") from exc


@contextmanager
def open_file(path: Path) -> Iterator[io.BufferedReader]:
    """The file's bytes, decompressed; seekable if they are Parquet."""
    with ExitStack() as stack:
        stream = stack.enter_context(path.open("rb"))
        if stream.peek(2).startswith(_GZIP_MAGIC):
            unzipped = gzip.GzipFile(fileobj=stream)
            stack.callback(unzipped.close)
            stream = io.BufferedReader(unzipped, _HEAD_BYTES * 16)
            if stream.peek(4).startswith(detecting.PARQUET_MAGIC):
                unpacked = stack.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stream, unpacked)
                unpacked.seek(0)
                stream = io.BufferedReader(unpacked)
        yield stream


def recognise(path: Path, stream: io.BufferedReader, options: ImportOptions) -> Recognised:
    """Tell what an open file is.

    Raises:
        UsageError: its format cannot be told, or a column that is needed is not there.
        BrokenFileError: it cannot be read.
    """
    head = stream.peek(_HEAD_BYTES)
    if head.startswith(_UTF16_MAGIC):
        raise UsageError(
            f"{path}: is UTF-16 text; convert it to UTF-8 (`iconv -f UTF-16 -t UTF-8`)"
        )
    container = detecting.detect_container(path.name, head)
    if options.format in ("csv", "parquet") and options.format != container:
        if options.format == "parquet":
            raise UsageError(f"{path}: is no Parquet file (it does not begin with PAR1)")
        container = "csv"
    known = [alias for aliases in ALIASES.values() for alias in aliases]
    known += [column.lower() for column in options.mapping.values()]
    rows = open_rows(stream, container, known)
    first = list(islice(rows, detecting.SAMPLE_ROWS))
    samples = [row.fields for row in first if isinstance(row, SourceRow)]
    seen = list(dict.fromkeys(str(name) for row in samples for name in row))
    name = options.format or detecting.detect_format(container, samples, options.mapping)
    if name is None:
        raise UsageError(_unknown(path, first, seen))
    kind = FORMATS[name]
    columns = dict(options.mapping)
    if name in ("csv", "parquet"):
        columns = detecting.table_columns(seen, columns)
        _check_columns(path, columns, seen)
    for field_name in columns:
        if field_name not in kind.fields:
            raise UsageError(
                f"--map {field_name}=...: format {name}, which {path.name} was found to be, has no "
                f"field {field_name!r}; it has {', '.join(kind.fields)}"
            )
    used = {columns.get(field_name, field_name) for field_name in kind.fields}
    left_out = tuple(column for column in seen if column not in used)
    return Recognised(container, kind, columns, tuple(seen), left_out, chain(first, rows))


def _check_columns(path: Path, columns: Mapping[str, str], seen: Sequence[str]) -> None:
    for name, column in columns.items():
        if seen and column not in seen:
            raise UsageError(
                f"{path}: --map {name}={column}: there is no column {column!r}; there are "
                f"{', '.join(seen)}"
            )
    for name in ("instruction", "output"):
        if name not in columns:
            raise UsageError(
                f"{path}: no column for {name!r}; there are {', '.join(seen) or 'none'}. Say which "
                f"with --map {name}=COLUMN"
            )


def _unknown(path: Path, first: Sequence[SourceRow | BadRow], seen: Sequence[str]) -> str:
    if not first:
        return f"{path}: holds no row"
    if seen:
        found = f"the fields of its first rows are {', '.join(seen)}"
        if flags := detecting.suggest_mapping(seen):
            found += f"; {flags} would read them"
    else:
        bad = [row for row in first if isinstance(row, BadRow)]
        found = "its first rows cannot be read: " + "; ".join(
            f"{row.number}: {row.detail}" for row in bad[:2]
        )
    return (
        f"{path}: its format cannot be told: {found}. Name it with --format, and columns with --map "
        f"instruction=COLUMN. Known formats and what a row of them holds:\n{detecting.known_formats()}"
    )
