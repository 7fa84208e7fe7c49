"""The report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from flows.reporting.chart import Cell, Chart, Side, Table
from flows.reporting.head import Fact, describe

_NO_SCRIPT_END = re.compile(r"</(?=script)", re.IGNORECASE)


def render_page(sides: Sequence[Side], charts: Sequence[Chart], version: str) -> str:
    """The page on a run, or on two."""
    data = sides[0].data
    return render_document(
        "Report on " + " and ".join(side.name for side in sides),
        f"from snapshot {data.generation} of the store, taken {data.taken_at:%Y-%m-%d %H:%M:%S} UTC",
        [(side.name, describe(side.data)) for side in sides],
        charts,
        version,
    )


def render_document(
    title: str,
    origin: str,
    heads: Sequence[tuple[str, Sequence[Fact]]],
    charts: Sequence[Chart],
    version: str,
) -> str:
    """A page of charts below their facts.

    Texts of the data are escaped where they are shown. Should one slip through all the same, the
    page's content security policy runs only the scripts whose hashes it names, and loads nothing.

    Args:
        origin: what the numbers were read from, and when.
        heads: name and facts of what is reported; two stand side by side.
    """
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = format_cell
    environment.filters["code"] = mark_commands
    library = _NO_SCRIPT_END.sub(r"<\\/", get_plotlyjs())
    scripts = [library, _read("charts.js")]
    return environment.from_string(_read("report.html.j2")).render(
        title=title,
        heads=heads,
        origin=origin,
        version=version,
        charts=[(chart, _embedded(chart.figure), _height(chart.figure)) for chart in charts],
        style=_read("report.css"),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
        numeric_columns=_numeric_columns,
    )


def format_cell(value: Cell, decimals: int) -> str:
    """A cell as people read it; a number too small for its decimals keeps two figures."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        is_small = 0 < abs(value) < 10**-decimals
        return f"{value:.2g}" if is_small else f"{value:,.{decimals}f}"
    return value


def mark_commands(text: str) -> Markup:
    """A sentence with what stands between backquotes as code."""
    pieces = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if number % 2 else piece
        for number, piece in enumerate(pieces)
    )


def _numeric_columns(table: Table) -> list[bool]:
    """Which columns hold numbers, and nothing else but gaps."""
    columns = zip(*table.rows, strict=True)
    kinds = [{type(cell) for cell in column} - {type(None)} for column in columns]
    return [bool(kind) and str not in kind for kind in kinds]


def _embedded(figure: Any) -> str | None:
    """A figure as JSON in which nothing can end the script element that holds it."""
    if figure is None:
        return None
    value = json.loads(figure.to_json())
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _height(figure: Any) -> int:
    return 0 if figure is None else int(figure.layout.height)


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _read(name: str) -> str:
    return resources.files("flows.reporting").joinpath(name).read_text(encoding="utf-8")
