"""The report of a run, alone or beside another: read, drawn, written."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from flows.reporting.chart import Chart, Side
from flows.reporting.difficulty import difficulty_chart
from flows.reporting.histograms import length_chart, novelty_chart
from flows.reporting.page import render_page
from flows.reporting.questions import question_chart
from flows.reporting.sankey import funnel_charts
from flows.reporting.statistics import statistics_chart
from flows.reporting.sunburst import verb_noun_charts
from flows.reporting.usage import usage_charts
from pipeline.errors import UsageError
from store import checked_lines


def draw_charts(sides: Sequence[Side], analyse_command: str) -> list[Chart]:
    """The parts of the report in the order shown.

    Args:
        analyse_command: what works out verbs, nouns and novelty, where they are missing.
    """
    charts = [
        statistics_chart(sides),
        *funnel_charts(sides),
        *verb_noun_charts(sides, analyse_command),
        question_chart(sides, analyse_command),
        novelty_chart(sides, analyse_command),
        length_chart(sides),
        difficulty_chart(sides),
        *usage_charts(sides),
    ]
    return [chart for chart in charts if chart is not None]


def write_page(sides: Sequence[Side], charts: Sequence[Chart], out: Path) -> int:
    """Write the page, whole or not at all; its size in bytes.

    Raises:
        UsageError: the file cannot be written.
    """
    data = render_page(sides, charts, version("evoloom")).encode()
    try:
        checked_lines.write_atomically(out, data)
    except OSError as exc:
        raise UsageError(f"--out {out}: cannot be written: {exc.strerror or exc}") from exc
    return len(data)
