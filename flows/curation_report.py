"""What `evoloom curate` shows: progress while it works, then what each step kept out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import typer

from flows.curation import CurationResult, Watcher
from flows.curation_card import step_lines
from flows.options import store_flag
from flows.progress import Display, line
from flows.publishing import print_published
from pipeline.curation.recipe import bundled_recipes
from pipeline.errors import UsageError

_EVERY_S = 0.5


@contextmanager
def watching(progress: Path | None, *, quiet: bool) -> Iterator[Watcher]:
    """Show progress on standard error, and append it to a file where one is named.

    Raises:
        UsageError: the file cannot be written.
    """
    with _appending(progress) as file, Display(quiet=quiet, as_line=_text, as_table=_text) as shown:
        yield _Watch(shown, file).watcher()


class _Watch:
    """Turns what a curation tells into progress records."""

    def __init__(self, display: Display, file: TextIO | None) -> None:
        self._display = display
        self._file = file
        self._head = ""
        self._before = 0.0
        self._of_step = 0.0
        self._told: tuple[str, float] = ("", 0.0)

    def watcher(self) -> Watcher:
        return Watcher(self._step, self._display.message, self._judging)

    def _step(self, number: int, steps: int, name: str, done: int, of: int) -> None:
        self._head = f"step {number} of {steps}, {name}"
        self._before, self._of_step = (number - 1) / steps, 1 / steps
        share = done / of if of else 1.0
        share = self._before + share * self._of_step
        self._tell(f"{self._head}: {done:,} of {of:,}", share, is_last=done == of)

    def _judging(self, record: dict[str, Any]) -> None:
        share = self._before + self._of_step * record["share_done"]
        self._tell(f"{self._head}: {line(record)}", share)

    def _tell(self, text: str, share: float, *, is_last: bool = False) -> None:
        name, at = self._told
        if not is_last and name == self._head and time.monotonic() - at < _EVERY_S:
            return
        self._told = (self._head, time.monotonic())
        record = {"state": self._head, "text": text, "share_done": round(share, 6)}
        self._display.show(record)
        if self._file is not None:
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()


@contextmanager
def _appending(path: Path | None) -> Iterator[TextIO | None]:
    if path is None:
        yield None
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"--progress {path}: cannot be written: {exc.strerror or exc}") from exc
    with file:
        yield file


def _text(record: dict[str, Any]) -> str:
    return str(record["text"])


def print_curated(result: CurationResult, store_path: Path, *, as_json: bool) -> None:
    """Say which version there is now, and what each step left."""
    summary = result.created.summary
    if as_json:
        value = {
            **asdict(summary),
            "created_at": f"{summary.created_at.isoformat()}Z" if summary.created_at else None,
            "created": result.created.is_new,
            "counts": [asdict(count) for count in result.collected.inputs],
            "steps": [asdict(report) for report in result.steps],
        }
        typer.echo(json.dumps(value, ensure_ascii=False))
    else:
        if not result.created.is_new:
            typer.echo(f"the content equals that of {summary.run_id}; no new version was made")
        typer.echo(
            f"{summary.run_id}: {summary.instructions} instructions, {summary.instances} instances, "
            f"{summary.content_hash}"
        )
        for text, count, depth in step_lines([asdict(report) for report in result.steps]):
            typer.echo(f"  {'  ' * depth}{text:<{48 - 2 * depth}} {count:>9,}")
    print_published(result.published)
    if not as_json:
        store = store_flag(store_path)
        typer.echo("\ntry next")
        typer.echo(f"  evoloom datasets show {summary.run_id}{store}")
        typer.echo(
            f"  evoloom sql \"SELECT * FROM curation_rejects WHERE dataset = '{summary.run_id}'\""
            f"{store}"
        )
        typer.echo(f"  evoloom train {summary.run_id}{store}")


def print_recipes(*, as_json: bool) -> None:
    """The recipes that come with evoloom."""
    found = bundled_recipes()
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for name, description in found.items():
        typer.echo(f"{name}\n  {description}")
