"""A part of the report: a picture, the same numbers as tables, or words on why there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple, TypeAlias

from store.report_data import ReportData

Cell: TypeAlias = str | int | float | None


class Side(NamedTuple):
    """What is reported: the run, or the one it is compared with, under the name it is shown by."""

    name: str
    data: ReportData


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers and texts as they are; `page` formats them. Columns of numbers are set to the right."""

    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    decimals: int = 2


@dataclass(frozen=True, slots=True)
class Chart:
    """A part of the report under a title that says what is shown.

    `figure` is a Plotly figure; `summary` says in words what is in it, for those who do not see it.
    `notes` are sentences below the title. A part without `figure` shows its tables openly; one that
    lacks its data says so in `notes`.
    """

    name: str
    title: str
    notes: tuple[str, ...] = ()
    figure: Any = None
    summary: str = ""
    tables: tuple[Table, ...] = field(default_factory=tuple)


def plain(text: str) -> str:
    """A text of the data as Plotly shows it letter by letter: it reads HTML tags in labels."""
    return escape(" ".join(text.split()), quote=False)


def shorten(text: str, length: int) -> str:
    """The start of a text on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def share_of(count: int, total: int) -> str:
    """`count` of `total` in per cent."""
    return f"{100 * count / total:.1f}%" if total else "-"
