"""`evoloom import`: a file that others made becomes a run, all of it or nothing."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeAlias

from flows.import_source import (
    ImportOptions,
    Recognised,
    check_options,
    describe_file,
    open_file,
    recognise,
    unit_of,
)
from flows.publishing import Published, publish_store
from pipeline.errors import UsageError
from pipeline.importing import FORMATS, BadRow, Counts, Grouper, ImportedTask, SourceRow, read_task
from pipeline.importing.containers import raw_text
from pipeline.importing.records import BadRowError, BrokenFileError, Container
from store.new_run import NewRun
from store.run_writer import check_new_run

Progress: TypeAlias = Callable[[str, int], None]
REJECTED = "rejected.jsonl"
"""The file of a run directory that keeps the rows that could not be read."""
KIND = "import"
_SHOWN_BAD_ROWS = 5
_PROGRESS_ROWS = 20_000
_STEM_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file. `bad_rows` are the first few; `left_out` are fields of the first
    rows that the format has no use for."""

    run_id: str
    file: str
    format: str
    is_detected: bool
    container: Container
    mapping: dict[str, str]
    left_out: tuple[str, ...]
    counts: Counts
    bad_rows: tuple[BadRow, ...]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The runs made, one a file, and what became of the store."""

    imports: tuple[Imported, ...]
    published: Published


def import_files(
    store_path: Path,
    files: Sequence[Path],
    options: ImportOptions,
    run_id: str | None = None,
    on_progress: Progress = lambda file, rows: None,
) -> ImportResult:
    """Import files, each as a run of its own; where one is refused, none is imported.

    Args:
        run_id: of a single file; None makes one of the file's name.
        on_progress: called with file and number of rows, now and then.

    Raises:
        UsageError: a file or an option is wrong; the store is as it was.
    """
    if run_id is not None and len(files) > 1:
        raise UsageError(
            f"--name {run_id}: {len(files)} files become {len(files)} runs, which cannot share a "
            "name; import them one by one, or leave --name out"
        )
    check_options(options)
    run_ids = [run_id or new_import_id(path) for path in files]
    for name in run_ids:
        check_new_run(store_path, name)
    with ExitStack() as stack:
        done = []
        for path, name in zip(files, run_ids, strict=True):
            run = stack.enter_context(NewRun(store_path, name))
            done.append((run, *_import_file(path, run, options, on_progress)))
        for run, _, manifest in done:
            run.finish(manifest)
    return ImportResult(tuple(imported for _, imported, _ in done), publish_store(store_path))


def new_import_id(path: Path) -> str:
    """A run id that names the file: `import-alpaca_data-20261121-1f2e`."""
    stem = path.name.split(".")[0] or "file"
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:_STEM_CHARACTERS]
    return f"{KIND}-{stem}-{datetime.now(UTC):%Y%m%d}-{token_hex(2)}"


def _import_file(
    path: Path, run: NewRun, options: ImportOptions, on_progress: Progress
) -> tuple[Imported, dict[str, Any]]:
    source = describe_file(path)
    try:
        with open_file(path) as stream:
            file = recognise(path, stream, options)
            counts, bad, missing = _write(path.name, run, file, on_progress)
    except BrokenFileError as exc:
        raise UsageError(
            f"{path}: {exc}. What follows cannot be read, so nothing was imported"
        ) from exc
    except (EOFError, OSError, zlib.error) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise UsageError(f"{path}: {reason}. Nothing was imported") from exc
    if missing:
        raise UsageError(_not_there(path, file, missing))
    mapping = {key: value for key, value in file.columns.items() if key != value}
    imported = Imported(
        run.run_id, path.name, file.format.name, options.format is None, file.container, mapping,
        file.left_out, counts, bad,
    )  # fmt: skip
    if bad and options.is_strict:
        listed = "\n".join(describe_bad_rows(imported))
        number = sum(counts.bad.values())
        raise UsageError(
            f"{path}: {number} bad {file.unit}(s), and --strict refuses them; nothing was imported\n"
            f"{listed}"
        )
    if not counts.accepted_instances:
        raise UsageError(_nothing(path, imported))
    manifest = {
        "kind": KIND,
        "source": source,
        "import_format": file.format.name,
        "container": file.container,
        "mapping": mapping,
        "fields_left_out": list(file.left_out),
        "counts": asdict(counts),
    }
    return imported, manifest


def _write(
    name: str, run: NewRun, file: Recognised, on_progress: Progress
) -> tuple[Counts, tuple[BadRow, ...], set[str]]:
    """Write the rows; the counts, the first bad ones, and mapped columns that no readable row has."""
    shown: list[BadRow] = []
    # JSON may be sparse: that a column is in none of the rows is known after the last.
    missing = set(file.columns.values())
    is_read = False
    with ExitStack() as stack:
        grouper = Grouper(lambda number: f"{name} {file.unit} {number}")
        stack.callback(grouper.close)
        aside = stack.enter_context((run.path / REJECTED).open("w", encoding="ascii"))
        for done, row in enumerate(file.rows, 1):
            if missing and isinstance(row, SourceRow):
                is_read = True
                missing.difference_update(row.fields)
            found = _understand(row, file)
            if isinstance(found, BadRow):
                if len(shown) < _SHOWN_BAD_ROWS:
                    shown.append(found)
                value = {file.unit: found.number, "reason": found.reason, "detail": found.detail,
                         "raw": found.raw}  # fmt: skip
                aside.write(json.dumps(value) + "\n")
                run.write([grouper.reject(found)])
            else:
                run.write([grouper.add(row.number, found)])
            if done % _PROGRESS_ROWS == 0:
                on_progress(name, done)
        counts = grouper.counts()
        aside.flush()
        os.fsync(aside.fileno())
    if not shown:
        (run.path / REJECTED).unlink()
    return counts, tuple(shown), missing if is_read else set()


def _understand(row: SourceRow | BadRow, file: Recognised) -> ImportedTask | BadRow:
    """The row's task, or why it has none."""
    if isinstance(row, BadRow):
        return row
    try:
        return read_task(file.format, row.fields, file.columns)
    except BadRowError as exc:
        return BadRow(row.number, exc.reason, exc.detail, raw_text(row))


def describe_bad_rows(item: Imported) -> list[str]:
    """The first bad rows, a line each, and how many more there are."""
    unit = unit_of(item.container)
    lines = [f"  {unit} {bad.number}: {bad.reason}: {bad.detail}" for bad in item.bad_rows]
    more = sum(item.counts.bad.values()) - len(item.bad_rows)
    return lines + ([f"  and {more} more"] if more else [])


def _not_there(path: Path, file: Recognised, missing: set[str]) -> str:
    flags = [f"--map {name}={column}" for name, column in file.columns.items() if column in missing]
    return (
        f"{path}: {', '.join(flags)}: no {file.unit} has a field "
        f"{' or '.join(map(repr, sorted(missing)))}; the first have {', '.join(file.seen) or 'none'}. "
        "Nothing was imported"
    )


def _nothing(path: Path, item: Imported) -> str:
    counts = item.counts
    if not counts.rows:
        return f"{path}: holds no row; nothing was imported"
    empty = [f"{count} {reason}" for reason, count in counts.empty.items()]
    if sum(counts.bad.values()) < counts.rows:
        found = ", ".join(empty) or "no instances"
        return f"{path}: no row that could be trained on ({found}); nothing was imported"
    listed = "\n".join(describe_bad_rows(item))
    return (
        f"{path}: none of its {counts.rows} {unit_of(item.container)}(s) can be read as "
        f"{item.format} ({FORMATS[item.format].needs}); nothing was imported\n{listed}"
    )
