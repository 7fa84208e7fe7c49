"""Dataset statistics, against numbers worked out by hand."""

import gzip
import json

import pytest

from pipeline.diversity.statistics import DatasetRow, DatasetStatistics, compute_statistics

ROWS = [
    DatasetRow("Draw a map.", "of the harbour", "a map", False),
    DatasetRow("Draw a map.", "", "another  map\nof it", False),
    DatasetRow("Is it a bird?", "owl", "yes", True),
    DatasetRow("Sing.", " \n", "la"),
    DatasetRow("Sing.", "", "la"),
]


def test_by_hand():
    assert compute_statistics(ROWS) == DatasetStatistics(
        instructions=3,
        classification=1,
        not_classification=1,
        unknown=1,
        instances=5,
        empty_inputs=3,
        mean_instruction_words=(3 + 4 + 1) / 3,
        mean_input_words=(3 + 1) / 2,
        mean_output_words=(2 + 4 + 1 + 1 + 1) / 5,
    )


def test_nothing():
    assert compute_statistics([]) == DatasetStatistics(0, 0, 0, 0, 0, 0, None, None, None)


def test_rows_may_come_as_they_are_read():
    assert compute_statistics(iter(ROWS)) == compute_statistics(ROWS)


@pytest.mark.parametrize(
    ("flags", "counts"),
    [
        ((None, True), (1, 0, 0)),
        ((False, None), (0, 1, 0)),
        ((True, False), (1, 0, 0)),
        ((False, True), (0, 1, 0)),
        ((None, None), (0, 0, 1)),
    ],
)
def test_the_first_row_that_knows_decides(flags, counts):
    found = compute_statistics(DatasetRow("Sing.", "", "la", flag) for flag in flags)
    assert (found.classification, found.not_classification, found.unknown) == counts


def test_published_sample(checkout):
    """METHODS.md a.6 gives these of the 5,000 rows that are shared."""
    folder = checkout.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared")
    path = folder / "self_instruct/gpt3_generated_instances_5k.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = compute_statistics(
        DatasetRow(row["instruction"], row["input"], row["output"]) for row in rows
    )
    assert (found.instructions, found.instances) == (4867, 5000)
    assert round(found.empty_inputs / found.instances, 3) == 0.454
    means = (found.mean_instruction_words, found.mean_input_words, found.mean_output_words)
    assert [round(mean, 1) for mean in means] == [15.6, 12.7, 19.3]
