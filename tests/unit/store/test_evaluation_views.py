"""What the store says of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb

from store.evaluation_rows import _notes
from store.schema import migrate


def test_a_tuned_student_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    comparisons = {
        ("rouge_l", False): 0.2,
        ("nll", False): 0.2,
        ("accuracy", False): -0.2,
        ("brier", True): -0.2,
        ("errors", True): 0.2,
        ("unclear", True): 0.0,
    }
    with duckdb.connect() as connection:
        migrate(connection, tmp_path / "evoloom.duckdb")
        connection.execute(
            "INSERT INTO evaluations VALUES "
            "('e', 't', 'd', 'b', 'h', 'lora', 'h', 'chat', 'float32', 'merged', "
            "NULL, NULL, NULL, NULL, NULL, NULL, 10, 0.95, 1)"
        )
        connection.execute(
            "INSERT INTO evaluation_files VALUES ('e', 0, 'benchmark', 'x', 'h', 9, 9, NULL)"
        )
        for (metric, is_lower_better), middle in comparisons.items():
            notes = _notes({"notes": {"ties": 1}, "is_lower_better": is_lower_better})
            connection.execute(
                "INSERT INTO evaluation_differences VALUES "
                "('e', 0, 'all', ?, 9, 0.5, 0.5, ?, ?, ?, ?)",
                [metric, middle, middle - 0.1, middle + 0.1, json.dumps(notes)],
            )
        found = connection.execute("SELECT metric, tuned_is FROM evaluation_summary").fetchall()
    assert dict(found) == {
        "rouge_l": "better", "nll": "worse", "accuracy": "worse", "brier": "better",
        "errors": "worse", "unclear": "no clear difference",
    }  # fmt: skip
    assert _notes({"notes": {"ties": 1}}) == {"ties": 1}  # as results said before
