"""Writing an export: what a name shows is the old data or the new, never half of either."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from pipeline.errors import UsageError
from store import checked_lines

STANDARD_OUTPUT = Path("-")
"""OUT that means standard output."""
Content: TypeAlias = Callable[[BinaryIO], None]
"""Writes a file's content."""
_ROWS_TOGETHER = 10_000
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def write_lines(file: BinaryIO, rows: Iterable[Any]) -> None:
    """JSON Lines."""
    file.writelines(_encode(row) + b"\n" for row in rows)


def write_array(file: BinaryIO, rows: Iterable[Any]) -> None:
    """One JSON array, a row on each line."""
    file.write(b"[\n")
    number = -1
    for number, row in enumerate(rows):
        file.write((b",\n" if number else b"") + _encode(row))
    file.write(b"\n]\n" if number >= 0 else b"]\n")


def write_parquet(file: BinaryIO, rows: Iterable[Mapping[str, Any]]) -> None:
    """A Parquet table of what `formats` calls a table's row; types do not depend on the rows."""
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("user", pa.string()), ("assistant", pa.string())])
    schema = pa.schema([
        pa.field("instruction", pa.string(), nullable=False),
        pa.field("input", pa.string(), nullable=False),
        pa.field("output", pa.string(), nullable=False),
        pa.field("is_classification", pa.bool_()),
        pa.field("difficulty", pa.int32()),
        pa.field("system", pa.string()),
        pa.field("further_turns", pa.list_(turn), nullable=False),
    ])  # fmt: skip
    types: dict[str, Any] = dict.fromkeys(schema.names, pl.String)
    types |= {"is_classification": pl.Boolean, "difficulty": pl.Int32}
    types["further_turns"] = pl.List(pl.Struct({"user": pl.String, "assistant": pl.String}))
    rest = iter(rows)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while chunk := list(islice(rest, _ROWS_TOGETHER)):
            # By way of Polars: Arrow imports pandas, for seconds, to look at Python's lists.
            columns = {name: [row[name] for row in chunk] for name in types}
            writer.write_table(pl.DataFrame(columns, schema=types).to_arrow().cast(schema))


def _encode(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def write_files(contents: Mapping[Path, Content]) -> None:
    """Write files that belong together; `-`, a pipe or a device is written to as it is.

    Each is complete before any takes its name. Of several, the later ones' old files go first, so
    that a kill in between leaves one missing rather than two that do not belong together.

    Raises:
        UsageError: one cannot be written; the old files stay.
    """
    waiting: list[tuple[Path, Path]] = []
    out = STANDARD_OUTPUT
    try:
        for out, content in contents.items():
            if out == STANDARD_OUTPUT:
                content(sys.stdout.buffer)
                sys.stdout.buffer.flush()
            elif out.is_dir():
                raise UsageError(f"{out}: is a directory; name a file in it")
            elif out.exists() and not out.is_file():
                with out.open("wb") as file:  # there is nothing to replace
                    content(file)
            else:
                # Through a symbolic link the file is replaced, not the link.
                target = Path(os.path.realpath(out))
                temporary = _beside(target)
                waiting.append((temporary, target))
                _write_new(temporary, content)
        for _, target in waiting[1:]:
            target.unlink(missing_ok=True)
        for temporary, target in waiting:
            os.replace(temporary, target)
            checked_lines.fsync_directory(target.parent)
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise UsageError(f"{out}: cannot be written: {exc.strerror or exc}") from exc
    finally:
        for temporary, _ in waiting:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_directory(out: Path, contents: Mapping[str, Content], replaceable: set[str]) -> None:
    """Write a directory of files, by their names in it, and give it its name when it is complete.

    Args:
        replaceable: names of files that an earlier export may have left in it. A directory that
            holds anything else is somebody's, and is left alone.

    Raises:
        UsageError: it cannot be written, or holds other files.
    """
    target = Path(os.path.realpath(out))
    with _usage_errors(out):
        _check_replaceable(out, target, replaceable)
        temporary = _beside(target)
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            for name, content in contents.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                _write_new(temporary / name, content)
            for folder in {(temporary / name).parent for name in contents}:
                checked_lines.fsync_directory(folder)
            _take_name(temporary, target)
            checked_lines.fsync_directory(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(out: Path, target: Path, names: set[str]) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise UsageError(f"{out}: is a file; this format is a directory, so name another")
    found = {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}
    if others := sorted(found - names):
        raise UsageError(
            f"{out}: holds files that are not of an export to this name ({', '.join(others[:3])}"
            f"{', ...' if len(others) > 3 else ''}) and is left alone; name a new directory"
        )


def _take_name(temporary: Path, target: Path) -> None:
    """Give a complete directory its name; one that had it ends up under the temporary name."""
    if not target.exists():
        temporary.rename(target)
    elif not _exchange(temporary, target):
        # Where the file system cannot exchange two names: for an instant there is neither.
        aside = target.with_name(f".{target.name}.{os.getpid()}.old")
        target.rename(aside)
        temporary.rename(target)
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once (Linux's renameat2); False where that is not to be had."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = (os.fsencode(one), os.fsencode(other))
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number))


def _write_new(path: Path, content: Content) -> None:
    with path.open("wb") as file:
        content(file)
        file.flush()
        os.fsync(file.fileno())


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


@contextmanager
def _usage_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise UsageError(f"{out}: cannot be written: {exc.strerror or exc}") from exc
