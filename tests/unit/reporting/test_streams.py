"""The funnel's streams: nothing is lost between the nodes, and every reason is there."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import polars as pl
import pytest

from flows.reporting.sankey import funnel_charts, sankey_figure
from flows.reporting.streams import MOST_REASONS, Panel, find_panels
from tests.unit.reporting import frames

IMPORT = [
    (11, "instructions", "import", "parsed", None, 50),
    (12, "instructions", "import", "rejected", "not_json", 3),
    (12, "instructions", "import", "rejected", "missing_field", 2),
    (13, "instructions", "import", "admitted", None, 45),
    (16, "instructions", "import", "unclassified", None, 45),
    (19, "instructions", "import", "without_instances", "empty_output", 1),
    (21, "instructions", "import", "accepted", None, 44),
    (31, "instances", "import", "parsed", None, 60),
    (32, "instances", "import", "rejected", "empty_output", 4),
    (34, "instances", "import", "accepted", None, 56),
]
EVOLUTION = [
    (1, "completions", "evolve", "requested", None, 30),
    (2, "completions", "evolve", "used", None, 30),
    (11, "instructions", "source", "parsed", None, 10),
    (13, "instructions", "source", "admitted", None, 10),
    (21, "instructions", "source", "accepted", None, 10),
    (11, "instructions", "evolve", "parsed", None, 30),
    (12, "instructions", "evolve", "rejected", "equal", 12),
    (13, "instructions", "evolve", "admitted", None, 18),
    (18, "instructions", "evolve", "left_out", None, 3),
    (21, "instructions", "evolve", "accepted", None, 15),
]


def flows(panel: Panel) -> tuple[Counter[tuple[int, str]], Counter[tuple[int, str]]]:
    into: Counter[tuple[int, str]] = Counter()
    out: Counter[tuple[int, str]] = Counter()
    for stream in panel.streams:
        out[stream.source] += stream.count
        into[stream.target] += stream.count
    return into, out


@pytest.mark.parametrize("rows", [frames.FUNNEL, IMPORT, EVOLUTION])
def test_what_flows_in_flows_out(rows: list[tuple[int, str, str, str, str | None, int]]) -> None:
    funnel = frames.funnel(rows)
    for panel in find_panels(funnel):
        into, out = flows(panel)
        for node in into.keys() & out.keys():
            assert into[node] == out[node], node
        whole = funnel.filter(
            (
                pl.col("subject")
                == panel.title.lower().replace("requests to the teacher", "completions")
            )
            & pl.col("outcome").is_in(["requested", "parsed"])
        )
        assert panel.total == whole["count"].sum()


def test_self_instruct_runs_from_parsed_over_admitted_to_accepted() -> None:
    panels = {panel.title: panel for panel in find_panels(frames.funnel(frames.FUNNEL))}
    drawn = {
        (stream.source[1], stream.target[1].replace("\n", ": ")): stream.count
        for stream in panels["Instructions"].streams
    }
    assert drawn == {
        ("instructions parsed", "admitted"): 70,
        ("instructions parsed", "rejected"): 130,
        ("rejected", "rejected: not_novel"): 100,
        ("rejected", "rejected: keyword"): 30,
        ("admitted", "without instances: no_instances"): 8,
        ("admitted", "surplus"): 2,
        ("admitted", "accepted"): 60,
    }


def test_an_evolution_flows_from_source_and_rounds_into_one_pool() -> None:
    panels = {panel.title: panel for panel in find_panels(frames.funnel(EVOLUTION))}
    into, _ = flows(panels["Instructions"])
    assert into[1, "accepted"] == 25
    assert into[1, "eliminated"] == 12
    assert into[1, "left out"] == 3


def test_an_import_has_no_panel_of_requests() -> None:
    titles = [panel.title for panel in find_panels(frames.funnel(IMPORT))]
    assert titles == ["Instructions", "Instances"]


def test_many_reasons_are_taken_together_and_none_is_lost() -> None:
    rows = [
        (12, "instructions", "import", "rejected", f"reason_{number:02}", 100 - number)
        for number in range(30)
    ]
    (panel,) = find_panels(frames.funnel(rows))
    into, _ = flows(panel)
    reasons = {key: count for (column, key), count in into.items() if column == 2}
    assert len(reasons) == MOST_REASONS + 1
    assert sum(reasons.values()) == sum(100 - number for number in range(30))
    assert reasons["rejected\n18 more reasons"] == sum(100 - number for number in range(12, 30))


def test_the_figure_holds_the_streams() -> None:
    panels = find_panels(frames.funnel(frames.FUNNEL))
    figure = sankey_figure(panels)
    assert len(figure.data) == len(panels)
    for trace, panel in zip(figure.data, panels, strict=True):
        labels = trace.node.label
        drawn = [
            (labels[source].rpartition(" (")[0].rpartition(" ")[0], count)
            for source, count in zip(trace.link.source, trace.link.value, strict=True)
        ]
        assert drawn == [(stream.source[1], stream.count) for stream in panel.streams]
    instructions = figure.data[1].node.label
    assert "not novel 100 (50.0%)" in instructions
    assert "accepted 60 (30.0%)" in instructions


def test_reasons_are_letters_not_tags() -> None:
    rows = [(12, "instructions", "import", "rejected", "<script>alert(1)</script>", 1)]
    labels = sankey_figure(find_panels(frames.funnel(rows))).data[0].node.label
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 1 (100.0%)" in labels


def test_panels_do_not_overlap() -> None:
    figure = sankey_figure(find_panels(frames.funnel(frames.FUNNEL)))
    ranges = [trace.domain.y for trace in figure.data]
    for upper, lower in pairwise(ranges):
        assert lower[1] < upper[0]


def test_the_table_holds_every_row_of_the_view() -> None:
    (chart,) = funnel_charts([frames.side()])
    (table,) = chart.tables
    expected = [
        (subject, stage, outcome.replace("_", " "), reason, count)
        for _, subject, stage, outcome, reason, count in frames.FUNNEL
    ]
    assert sorted(table.rows, key=str) == sorted(expected, key=str)


def test_an_empty_funnel_is_said() -> None:
    (chart,) = funnel_charts([frames.side(funnel=frames.funnel([]))])
    assert chart.figure is None
    assert chart.notes == ("Nothing has been counted of this run yet.",)
