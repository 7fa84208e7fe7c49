"""The funnel as streams: which rows of the view `funnel` flow from which to which.

The funnel counts three things that cannot flow into each other, since one completion holds several
instructions and one instruction has several instances. Each is a panel of its own, from all that
came in, on the left, to what became of it, with the reasons, on the right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

MOST_REASONS = 12
"""Reasons shown of one outcome; the others are taken together."""
SUBJECTS = {
    "completions": "Requests to the teacher",
    "instructions": "Instructions",
    "instances": "Instances",
}
_ENTRIES = {
    ("instructions", "generate"): "instructions parsed",
    ("instructions", "source"): "source instructions",
    ("instructions", "evolve"): "evolutions",
    ("instructions", "import"): "read from the file",
    ("instructions", "dataset"): "instructions taken in",
    ("instances", "generate"): "instances parsed",
    ("instances", "import"): "instances read",
    ("instances", "dataset"): "instances taken in",
}
_WITHIN_ADMITTED = ("pending", "left_out", "without_instances", "surplus", "accepted")


@dataclass(frozen=True, slots=True)
class Stream:
    """`count` go from one node to another. Nodes are (column, key): a key is a name within a panel.

    `outcome` is what the target stands for, and gives it its colour.
    """

    source: tuple[int, str]
    target: tuple[int, str]
    count: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Panel:
    """The streams of one subject, with the number of what came in."""

    title: str
    streams: tuple[Stream, ...]
    total: int

    @property
    def leaves(self) -> int:
        """The most nodes that stand one above the other."""
        columns: dict[int, set[str]] = {}
        for stream in self.streams:
            for column, key in (stream.source, stream.target):
                columns.setdefault(column, set()).add(key)
        return max(map(len, columns.values()))


def find_panels(funnel: pl.DataFrame) -> list[Panel]:
    """The panels of a run's funnel; a subject that nothing was counted of has none.

    Args:
        funnel: the view's rows of one run: subject, stage, outcome, reason, count.
    """
    panels = []
    for subject, title in SUBJECTS.items():
        rows = funnel.filter(pl.col("subject") == subject)
        streams = tuple(
            stream
            for stage in rows["stage"].unique(maintain_order=True)
            for stream in _stage_streams(subject, rows.filter(pl.col("stage") == stage))
        )
        if streams:
            total = sum(stream.count for stream in streams if stream.source[0] == 0)
            panels.append(Panel(title, streams, total))
    return panels


def _stage_streams(subject: str, rows: pl.DataFrame) -> Iterator[Stream]:
    stage = str(rows["stage"][0])
    entry = (0, _entry(subject, stage))
    ends = rows.filter(~pl.col("outcome").is_in(
        ["requested", "parsed", "admitted", "classification", "not_classification", "unclassified"]
    ))  # fmt: skip
    middle = stage == "generate" and subject == "instructions"
    admitted = ends.filter(pl.col("outcome").is_in(_WITHIN_ADMITTED))["count"].sum()
    if middle and admitted:
        yield Stream(entry, (1, "admitted"), int(admitted), "admitted")
    for outcome in ends["outcome"].unique(maintain_order=True):
        of_outcome = ends.filter(pl.col("outcome") == outcome).sort(
            ["count", "reason"], descending=[True, False]
        )
        total = int(of_outcome["count"].sum())
        name = _outcome_name(subject, stage, outcome)
        reasons = _reasons(of_outcome)
        if middle and outcome in _WITHIN_ADMITTED:
            # One column further and the labels of neighbours would lie on each other.
            for reason, count in reasons:
                leaf = name if reason is None else f"{name}: {reason}"
                yield Stream((1, "admitted"), (2, leaf), count, outcome)
            continue
        yield Stream(entry, (1, name), total, outcome)
        for reason, count in reasons:
            if reason is not None:
                # Reasons of two outcomes stay apart; the outcome is cut off where it is shown.
                yield Stream((1, name), (2, f"{name}\n{reason}"), count, outcome)


def _reasons(rows: pl.DataFrame) -> list[tuple[str | None, int]]:
    """Reasons of an outcome with their counts; the rare ones of many together."""
    counts = [(row["reason"], int(row["count"])) for row in rows.iter_rows(named=True)]
    rest = counts[MOST_REASONS:]
    if rest:
        together = (f"{len(rest)} more reasons", sum(count for _, count in rest))
        return [*counts[:MOST_REASONS], together]
    return counts


def _entry(subject: str, stage: str) -> str:
    if subject == "completions":
        return f"{stage} requests"
    known = _ENTRIES.get((subject, stage))
    return known or f"{subject} of stage {stage}"


def _outcome_name(subject: str, stage: str, outcome: str) -> str:
    if subject == "instructions" and stage == "evolve" and outcome == "rejected":
        return "eliminated"
    return outcome.replace("_", " ")
