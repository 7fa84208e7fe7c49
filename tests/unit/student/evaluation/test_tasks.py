"""Evaluation files: read, refused with the line, drawn from."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.student.evaluation.tasks import (
    draw,
    held_out_items,
    read_tasks,
    read_user_oriented,
)
from pipeline.student.records import Example
from tests.support.students import nursery

SHARED = Path(__file__).parents[5] / "shared" / "data" / "superni" / "instances_shared.jsonl.gz"
TASK = {"task": "t1", "category": "Word Analogy", "definition": "Do it.", "input": "x",
        "output": ["a", "b"], "id": "t1-7"}  # fmt: skip


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_a_task_becomes_an_item(tmp_path: Path) -> None:
    file, items = read_tasks(write(tmp_path / "tasks.jsonl", TASK, {**TASK, "output": "one"}), 3)
    first, second = items
    assert (file.number, file.part, file.name, file.items) == (3, "tasks", "tasks.jsonl", 2)
    assert (first.file, first.number, first.name, first.task) == (3, 0, "t1-7", "t1")
    assert (first.instruction, first.input, first.references) == ("Do it.", "x", ("a", "b"))
    assert (first.category, second.references, second.number) == ("Word Analogy", ("one",), 1)


def test_gzip_is_seen_from_the_content(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.jsonl", TASK)
    packed = tmp_path / "packed.jsonl"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_tasks(packed, 0)[1] == read_tasks(plain, 0)[1]


def test_what_a_task_need_not_have(tmp_path: Path) -> None:
    bare = {"definition": "Do it.", "output": "one"}
    _, (item,) = read_tasks(write(tmp_path / "tasks.jsonl", bare), 0)
    assert (item.name, item.task, item.input, item.category) == ("line 1", "tasks.jsonl", "", None)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"definition": "Do it."}, "'output' is a text or a list"),
        ({"definition": "Do it.", "output": []}, "'output' holds no reference"),
        ({"definition": "Do it.", "output": [1]}, "'output' is a text or a list"),
        ({"output": "x"}, "'definition' is missing"),
        ({"definition": 3, "output": "x"}, "'definition' is no text"),
        (["Do it."], "a JSON object is expected"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object, said: str) -> None:
    path = write(tmp_path / "tasks.jsonl", TASK, row)
    with pytest.raises(UsageError, match=rf"tasks.jsonl line 2: .*{said}"):
        read_tasks(path, 0)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\x1f\x8bnonsense", b"{", b"\xff\xfe{}"])
def test_a_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"tasks\.jsonl"):
        read_tasks(path, 0)
    with pytest.raises(UsageError, match="cannot be read"):
        read_tasks(tmp_path / "absent.jsonl", 0)


def test_the_bundled_user_oriented_tasks() -> None:
    file, items = read_user_oriented(None, 1)
    assert len(items) == file.items >= 80
    assert len({item.name for item in items}) == len(items)
    assert all(item.part == "user_oriented" and item.task == item.name for item in items)


def test_held_out_examples_are_tasks_by_lineage() -> None:
    examples = [*nursery(3), Example("i", "root-0", "Say.", "", "Said.", True, "Be kind.")]
    file, items = held_out_items(examples, "held-out", 0)
    assert [item.task for item in items] == ["root-0", "root-0", "root-1", "root-0"]
    assert (items[3].is_classification, items[3].system, items[3].references) == (
        True, "Be kind.", ("Said.",)
    )  # fmt: skip
    assert held_out_items(examples[:3], "held-out", 0)[0].sha256 != file.sha256


def test_a_limit_draws_the_same_items_and_keeps_their_numbers(tmp_path: Path) -> None:
    rows = [{**TASK, "id": str(number)} for number in range(50)]
    file, items = read_tasks(write(tmp_path / "tasks.jsonl", *rows), 0)
    drawn = draw(items, 10, 1, file)
    assert drawn == draw(items, 10, 1, file)
    assert [item.number for item in drawn] == sorted({item.number for item in drawn})
    assert len(drawn) == 10
    assert drawn != draw(items, 10, 2, file)
    assert draw(items, None, 1, file) == draw(items, 50, 1, file) == items


def test_the_shared_sample_of_super_natural_instructions() -> None:
    if not SHARED.parent.is_dir():
        pytest.skip("no ../shared")
    file, items = read_tasks(SHARED, 0)
    assert file.items == 678
    assert len({item.task for item in items}) == 42
    assert all(item.references for item in items)
