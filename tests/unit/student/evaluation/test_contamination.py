"""Training examples in evaluation files are found, wherever they hide."""

from __future__ import annotations

import pytest

from pipeline.student.evaluation.contamination import (
    contaminated_items,
    contamination_report,
    find_contaminated,
)
from pipeline.student.evaluation.tasks import read_user_oriented
from pipeline.student.records import Example
from tests.support.students import nursery

FILE, ITEMS = read_user_oriented(None, 2)
ITEM = next(item for item in ITEMS if len(item.instruction.split()) > 20)


def example(instruction: str = "Say something.", output: str = "Said.", **more: object) -> Example:
    return Example("leak", "root", instruction, "", output, **more)  # type: ignore[arg-type]


def found_in(*examples: Example) -> list[tuple[int, int]]:
    return [(one.file, one.number)
            for one in find_contaminated(examples, [FILE], ITEMS)]  # fmt: skip


@pytest.mark.parametrize(
    "leak",
    [
        example(ITEM.instruction),
        example(ITEM.instruction.upper()),
        example(f"Please help. {ITEM.instruction.replace(',', ';')} Thanks a lot!"),
        example(output=ITEM.instruction),
        example(turns=((ITEM.instruction, "Yes."),)),
        example(system=ITEM.instruction),
    ],
    ids=["verbatim", "upper case", "embedded", "in an output", "in a later turn", "in the system"],
)
def test_is_found(leak: Example) -> None:
    assert found_in(*nursery(20), leak) == [ITEM.position]


def test_clean_training_data_is_clean() -> None:
    assert found_in(*nursery(40)) == []


def test_the_report_counts_by_file_and_names_the_example() -> None:
    found = find_contaminated([example(ITEM.instruction)], [FILE], ITEMS)
    report = contamination_report([FILE], ITEMS, found)
    assert report["files"] == [{"file": 2, "items": len(ITEMS), "contaminated": 1}]
    assert report["items"][0]["example"] == "leak"
    assert contaminated_items(report) == {ITEM.position}
