"""The dataset statistics of the Self-Instruct paper (Table 1), over rows in plain Python.

The store has them as a view; this is the independent computation that its tests compare with, and
what there is where no store is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class DatasetRow(NamedTuple):
    """One instance with its instruction; `is_classification` is None where it is not known."""

    instruction: str
    input: str
    output: str
    is_classification: bool | None = None


@dataclass(frozen=True, slots=True)
class DatasetStatistics:
    """Counts, and mean lengths in words; a mean of nothing is None.

    Instructions are counted by distinct text, and `classification`, `not_classification` and
    `unknown` divide them. Instances are rows: one that occurs twice counts twice.
    """

    instructions: int
    classification: int
    not_classification: int
    unknown: int
    instances: int
    empty_inputs: int
    mean_instruction_words: float | None
    mean_input_words: float | None
    mean_output_words: float | None


def compute_statistics(rows: Iterable[DatasetRow]) -> DatasetStatistics:
    """Statistics of a dataset, row by row as they come.

    Words are what whitespace separates. An input of whitespace alone is empty, and empty ones are
    left out of the mean. The length of an instruction counts once, however many instances it has.
    Where rows of one instruction differ on whether it is a classification task, the first that
    knows decides.

    Source: Wang et al. 2023, "Self-Instruct", Table 1.
    """
    known: dict[str, bool | None] = {}
    instances = empty = input_words = output_words = 0
    for row in rows:
        if known.get(row.instruction) is None:
            known[row.instruction] = row.is_classification
        instances += 1
        words = len(row.input.split())
        empty += words == 0
        input_words += words
        output_words += len(row.output.split())
    answers = list(known.values())
    return DatasetStatistics(
        instructions=len(known),
        classification=answers.count(True),
        not_classification=answers.count(False),
        unknown=answers.count(None),
        instances=instances,
        empty_inputs=empty,
        mean_instruction_words=_mean(sum(len(text.split()) for text in known), len(known)),
        mean_input_words=_mean(input_words, instances - empty),
        mean_output_words=_mean(output_words, instances),
    )


def _mean(total: int, count: int) -> float | None:
    return total / count if count else None
