"""Equal instructions are one, equal rows are flagged, and memory does not grow with the rows."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from pipeline.importing import BadRow, Grouper, ImportedInstance, ImportedTask
from pipeline.records import Batch, InstanceRow, InstructionRow


@pytest.fixture
def grouper() -> Iterator[Grouper]:
    made = Grouper(lambda number: f"file line {number}")
    yield made
    made.close()


def task(text: str, output: str = "x", given: str = "", **more) -> ImportedTask:
    flags = {key: more.pop(key) for key in ("is_classification", "difficulty") if key in more}
    return ImportedTask(text, (ImportedInstance(given, output, **more),), **flags)


def last(
    batches: list[Batch],
) -> tuple[dict[int, InstructionRow], dict[tuple[int, int], InstanceRow]]:
    """The last state of every row, as the store keeps it."""
    instructions, instances = {}, {}
    positions = [batch.position for batch in batches]
    assert positions == sorted(set(positions))
    for batch in batches:
        for row in batch.instructions:
            instructions[row.position[0]] = row
        for item in batch.instances:
            assert (item.position[0], item.index) not in instances
            instances[item.position[0], item.index] = item
    return instructions, instances


def test_equal_instructions_are_one_with_several_instances(grouper):
    rows = [task("a", "1"), task("b", "2"), task("a", "3"), task("a ", "4"), task("a", "5")]
    instructions, instances = last([grouper.add(n, row) for n, row in enumerate(rows, 1)])
    assert {key: (row.text, row.origin) for key, row in instructions.items()} == {
        0: ("a", "file line 1"), 1: ("b", "file line 2"), 3: ("a ", "file line 4"),
    }  # fmt: skip
    found = {key: row.output for key, row in instances.items()}
    assert found == {(0, 0): "1", (0, 1): "3", (0, 2): "5", (1, 0): "2", (3, 0): "4"}
    assert grouper.counts().instructions == 3


def test_the_first_row_that_knows_decides(grouper):
    said = [None, True, False, None]
    rows = [grouper.add(n, task("a", str(n), is_classification=it)) for n, it in enumerate(said, 1)]
    assert last(rows)[0][0].is_classification is True
    # Rows that change nothing do not write the instruction again.
    assert [len(batch.instructions) for batch in rows] == [1, 1, 0, 0]
    assert grouper.counts().unknown_classification == 0
    grouper.add(9, task("b", difficulty=3))
    assert grouper.counts().unknown_classification == 1


def test_equal_rows_are_kept_and_flagged(grouper):
    turns = (("u", "a"),)
    rows = [
        task("a"), task("a"), task("a", given="y"), task("a", system="s"), task("a", system="s"),
        task("a", further_turns=turns), task("a", further_turns=turns),
        task("ab", "c"), task("a", "bc"),
    ]  # fmt: skip
    _, instances = last([grouper.add(n, row) for n, row in enumerate(rows, 1)])
    flags = [instances[key].is_duplicate for key in sorted(instances)]
    # Those of 'a', then the one of 'ab'.
    assert flags == [False, True, False, False, True, False, True, False, False]
    assert grouper.counts().duplicates == 3
    assert grouper.counts().instances == 9


def test_empty_rows_are_kept_with_their_reason(grouper):
    rows = [
        task(" ", "x"), task("a", "\n"), task("b", ""), task("b", "y"), ImportedTask("c", ()),
        task("d", "x", further_turns=(("u", " "),)),
    ]  # fmt: skip
    instructions, instances = last([grouper.add(n, row) for n, row in enumerate(rows, 1)])
    states = {row.text: (row.state, row.reason) for row in instructions.values()}
    assert states == {
        " ": ("rejected", "empty_instruction"),
        "a": ("without_instances", "all_instances_rejected"),
        "b": ("accepted", None),
        "c": ("without_instances", "no_instances"),
        "d": ("without_instances", "all_instances_rejected"),
    }
    reasons = [instances[key].reason for key in sorted(instances)]
    assert reasons == ["empty_instruction", "empty_output", "empty_output", None, "empty_turn"]
    counts = grouper.counts()
    assert (counts.rows, counts.instructions, counts.accepted_instances) == (6, 1, 1)
    assert counts.empty == {"empty_output": 2, "empty_instruction": 1, "empty_turn": 1}


def test_further_turns_are_json(grouper):
    turns = (("é", "a"), ("b", "c"))
    batch = grouper.add(1, task("a", further_turns=turns, system="s"))
    assert json.loads(batch.instances[0].further_turns or "") == [["é", "a"], ["b", "c"]]
    assert batch.instances[0].system == "s"


def test_a_bad_row_is_an_instruction_that_is_rejected(grouper):
    raw = "x\0\udcff" + "y" * 1000
    (row,) = grouper.reject(BadRow(7, "not_json", "why", raw)).instructions
    assert (row.position, row.state, row.reason) == ((6,), "rejected", "not_json")
    assert (row.evidence, row.origin) == ("why", "file line 7")
    assert row.text == "x\ufffd?" + "y" * 197
    assert grouper.counts().bad == {"not_json": 1}
    assert grouper.counts().rows == 1


def test_counts_are_those_of_plain_python(grouper):
    draw = random.Random(5)
    rows = [
        task(f"t{draw.randrange(40)}", f"o{draw.randrange(3)}",
             is_classification=draw.choice([None, None, True, False]))
        for _ in range(400)
    ]  # fmt: skip
    instructions, instances = last([grouper.add(n, row) for n, row in enumerate(rows, 1)])
    known: dict[str, bool | None] = {}
    for row in rows:
        if known.get(row.instruction) is None:
            known[row.instruction] = row.is_classification
    assert {row.text: row.is_classification for row in instructions.values()} == known
    counts = grouper.counts()
    assert counts.instructions == len(known)
    assert counts.unknown_classification == list(known.values()).count(None)
    pairs = {(row.instruction, row.instances[0].output) for row in rows}
    assert counts.duplicates == 400 - len(pairs)
    assert sum(row.is_duplicate for row in instances.values()) == counts.duplicates
