"""The published table of dataset statistics, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flows.reporting.chart import Cell, Chart, Side, Table
from store.report_data import Statistics

PAPER: Final = Statistics(
    instructions=52_445,
    classification=11_584,
    not_classification=40_861,
    unknown=0,
    instances=82_439,
    empty_inputs=35_878,
    mean_instruction_words=15.9,
    mean_input_words=12.7,
    mean_output_words=18.9,
)
"""Wang et al. 2023, "Self-Instruct", Table 1."""
_ROWS: tuple[tuple[str, str], ...] = (
    ("instructions", "instructions"),
    ("of them classification tasks", "classification"),
    ("of them not", "not_classification"),
    ("of them unknown", "unknown"),
    ("instances", "instances"),
    ("of them with empty input", "empty_inputs"),
    ("empty inputs, % of instances", "share"),
    ("mean length of an instruction, words", "mean_instruction_words"),
    ("mean length of a non-empty input, words", "mean_input_words"),
    ("mean length of an output, words", "mean_output_words"),
)


def statistics_chart(sides: Sequence[Side]) -> Chart:
    """The rows of the paper's Table 1 for each side and as published."""
    columns = ("", *(side.name for side in sides), "Self-Instruct, Table 1")
    every = [*(side.data.statistics for side in sides), PAPER]
    rows = [(text, *(_value(one, name) for one in every)) for text, name in _ROWS]
    return Chart(
        "statistics", "Statistics, beside the paper's",
        ("Instructions are counted by distinct text. Words are what white space separates.",),
        tables=(Table("Statistics of the accepted data", columns, rows, decimals=1),),
    )  # fmt: skip


def _value(statistics: Statistics, name: str) -> Cell:
    if name == "share":
        if not statistics.instances:
            return None
        return round(100 * statistics.empty_inputs / statistics.instances, 1)
    value: int | float | None = getattr(statistics, name)
    return round(value, 1) if isinstance(value, float) else value
