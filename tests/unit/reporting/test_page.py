"""The page: nothing of the data is read as HTML, and nothing outside the file is needed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects as go
import pytest

from flows.reporting.chart import Chart, Side, Table
from flows.reporting.page import format_cell, mark_commands, render_page
from flows.reporting.write import draw_charts
from tests.unit.reporting import frames

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.scripts:
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)
        self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self.lasttag = ""

    @property
    def figures(self) -> dict[str, Any]:
        return {str(attrs["data-chart"]): json.loads(text)
                for attrs, text in self.scripts if "data-chart" in attrs}  # fmt: skip


def render(*sides: Side) -> Page:
    return Page(render_page(sides, draw_charts(sides, "evoloom store analyse"), "0.1"))


@pytest.fixture(scope="module")
def evil() -> Page:
    pairs = frames.pairs([(EVIL, f"<b>{EVIL}", 5, f"翻译 {EVIL} 🎉")])
    rows = [(12, "instructions", "import", "rejected", EVIL, 1)]
    kinds = frames.kinds([("question", EVIL, 3)])
    return render(frames.side(EVIL, pairs=pairs, funnel=frames.funnel(rows), kinds=kinds,
                              head={"models": (EVIL,), "reason": EVIL}))  # fmt: skip


def test_only_the_two_scripts_of_the_page_run(evil: Page) -> None:
    run = [text for attrs, text in evil.scripts if attrs.get("type") != "application/json"]
    assert len(run) == 2
    policy = next(
        str(attrs["content"]) for tag, attrs in evil.tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    hashes = {
        "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in run
    }
    assert set(re.findall(r"'(sha256-[^']+)'", policy)) == hashes
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_texts_of_the_data_stay_texts(evil: Page) -> None:
    assert not [tag for tag, _ in evil.tags if tag in ("img", "b")]
    assert not [attrs for _, attrs in evil.tags if any(name.startswith("on") for name in attrs)]
    text = "".join(evil.texts)
    assert f"翻译 {EVIL} 🎉" in text
    assert f"completed: {EVIL}" in text


def test_nothing_is_loaded(evil: Page) -> None:
    links = [str(attrs.get(name) or "") for _, attrs in evil.tags for name in ("src", "href")]
    assert all(link.startswith("#") for link in links if link)
    assert not [tag for tag, _ in evil.tags if tag in ("link", "iframe", "base", "object")]


def test_figures_come_through_unchanged() -> None:
    sides = [frames.side()]
    charts = draw_charts(sides, "evoloom store analyse")
    page = Page(render_page(sides, charts, "0.1"))
    expected = {
        f"{chart.name}-chart": json.loads(chart.figure.to_json())
        for chart in charts
        if chart.figure is not None
    }
    assert page.figures == expected
    assert len(expected) == 6


def test_every_picture_has_words_and_a_table() -> None:
    page = render(frames.side(), frames.side("night-2"))
    pictures = [attrs for _, attrs in page.tags if attrs.get("role") == "img"]
    assert len(pictures) == len(page.figures)
    assert all(len(str(attrs["aria-label"])) > 30 for attrs in pictures)
    # Its place is reserved before it is drawn.
    assert all("height:" in str(attrs["style"]) for attrs in pictures)
    assert len([tag for tag, _ in page.tags if tag == "details"]) == len(pictures)


def test_ids_are_unique_and_every_link_leads_somewhere() -> None:
    page = render(frames.side(), frames.side("night-2"))
    ids = [str(attrs["id"]) for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"]
    assert set(links) <= set(ids)
    assert len(links) >= 8


def test_a_figure_cannot_end_its_script() -> None:
    texts = [EVIL, "\u2028", "</script ", "<!--<script "]
    figure = go.Figure(go.Bar(x=texts, y=[1, 2, 3, 4]), layout={"height": 100})
    side = frames.side()
    page = Page(render_page([side], [Chart("one", "One", figure=figure)], "0.1"))
    assert page.figures["one-chart"]["data"][0]["x"] == texts
    # Browsers end a script at more than Python's parser does: without "<" nothing can.
    (embedded,) = [text for attrs, text in page.scripts if "data-chart" in attrs]
    assert "<" not in embedded


def test_a_part_without_a_figure_shows_its_table_openly() -> None:
    table = Table("Counts", ("name", "count"), [("a", 1234)])
    page = Page(render_page([frames.side()], [Chart("one", "One", tables=(table,))], "0.1"))
    assert "details" not in [tag for tag, _ in page.tags]
    assert "1,234" in page.texts


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [(None, 2, "–"), (1234567, 2, "1,234,567"), (15.94, 1, "15.9"), (0.0, 2, "0.00"),
     (0.00042, 2, "0.00042"), (1234.5, 2, "1,234.50"), ("a_b", 2, "a_b")],
)  # fmt: skip
def test_cells_are_as_people_read_them(value: Any, decimals: int, expected: str) -> None:
    assert format_cell(value, decimals) == expected


def test_commands_are_marked_and_escaped() -> None:
    assert mark_commands("type `a <b>` & go") == "type <code>a &lt;b&gt;</code> &amp; go"


def test_columns_of_numbers_are_set_to_the_right_gaps_too() -> None:
    table = Table("Counts", ("name", "count", "why"), [("a", 1, "x"), ("b", None, None)])
    page = Page(render_page([frames.side()], [Chart("one", "One", tables=(table,))], "0.1"))
    cells = [attrs.get("class") for tag, attrs in page.tags if tag == "td"]
    assert cells == ["number", None, "number", None]
