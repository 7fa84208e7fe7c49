"""Rows of each format as tasks, and every way in which one can be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.importing import FORMATS, ImportedInstance, ImportedTask, read_task
from pipeline.importing.records import BadRowError


def read(format: str, row: dict[str, Any], **columns: str) -> ImportedTask:
    return read_task(FORMATS[format], row, columns)


def talk(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"from": role, "value": text} for role, text in turns]


def said(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in turns]


ONE = ImportedTask("Add.", (ImportedInstance("1 2", "3"),))
PLAIN = ImportedTask("Add.", (ImportedInstance("", "3"),))
LONG = ImportedTask(
    "Add.",
    (ImportedInstance("", "3", "Be brief.", (("And 2 2?", "4"), ("And 3 3?", "6"))),),
)

READ = [
    ("alpaca", {"instruction": "Add.", "input": "1 2", "output": "3", "id": 7}, ONE),
    ("alpaca", {"instruction": "Add.", "input": None, "output": "3"}, PLAIN),
    ("alpaca", {"instruction": "Add.", "output": "3"}, PLAIN),
    # LLaMA-Factory's: what was said before, and then the instruction.
    (
        "alpaca",
        {
            "instruction": "And 3 3?", "input": "", "output": "6", "system": "Be brief.",
            "history": [["Add.", "3"], ["And 2 2?", "4"]],
        },
        LONG,
    ),
    ("alpaca", {"instruction": "Add.", "output": "3", "system": "", "history": []}, PLAIN),
    ("self-instruct", {"instruction": "Add.", "input": "1 2", "output": "3"}, ONE),
    (
        "self-instruct",
        {
            "instruction": "Sort.", "is_classification": True,
            "instances": [{"input": "b", "output": "2"}, {"input": "", "output": "x"}],
        },
        ImportedTask(
            "Sort.", (ImportedInstance("b", "2"), ImportedInstance("", "x")), True
        ),
    ),
    ("self-instruct", {"instruction": "Sort.", "instances": []}, ImportedTask("Sort.", ())),
    ("evol-instruct", {"instruction": "Add.", "output": "3"}, PLAIN),
    ("evol-instruct", {"input": "Add.", "output": "3", "source_file": "x"}, PLAIN),
    ("sharegpt", {"conversations": talk(("human", "Add."), ("gpt", "3"))}, PLAIN),
    (
        "sharegpt",
        {
            "conversations": talk(
                ("system", "Be brief."), ("user", "Add."), ("assistant", "3"),
                ("human", "And 2 2?"), ("gpt", "4"), ("human", "And 3 3?"), ("gpt", "6"),
            )
        },
        LONG,
    ),
    (
        "messages",
        {
            "messages": said(
                ("system", "Be brief."), ("user", [{"type": "text", "text": "Ad"},
                                                   {"type": "text", "text": "d."}]),
                ("assistant", "3"), ("user", "And 2 2?"), ("assistant", "4"),
                ("user", "And 3 3?"), ("assistant", "6"),
            )
        },
        LONG,
    ),
    ("messages", {"system": "S", "messages": said(("user", "Add."), ("assistant", "3"))},
     ImportedTask("Add.", (ImportedInstance("", "3", "S"),))),
    ("csv", {"instruction": "Add.", "output": "3", "is_classification": "Yes"},
     ImportedTask("Add.", (ImportedInstance("", "3"),), True)),
    ("csv", {"instruction": "Add.", "output": "3", "is_classification": "", "difficulty": "4"},
     ImportedTask("Add.", (ImportedInstance("", "3"),), None, 4)),
    (
        "parquet",
        {
            "instruction": "Add.", "input": "", "output": "3", "is_classification": False,
            "difficulty": 4, "system": "Be brief.",
            "further_turns": [{"user": "And 2 2?", "assistant": "4"},
                              {"user": "And 3 3?", "assistant": "6"}],
        },
        ImportedTask("Add.", LONG.instances, False, 4),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("format", "row", "task"), READ)
def test_a_row_is_read_as_it_is_meant(format, row, task):
    assert read(format, row) == task


def test_texts_are_kept_to_the_character():
    text = "  Ünïcödé 😀\u2028\r\n\ttabs \ud83d "
    task = read("alpaca", {"instruction": text, "input": text, "output": text})
    assert task == ImportedTask(text, (ImportedInstance(text, text),))


def test_columns_can_be_named_otherwise():
    row = {"question": "Add.", "answer": "3", "instruction": "not this"}
    assert read("alpaca", row, instruction="question", output="answer") == PLAIN


@pytest.mark.parametrize(
    ("value", "rating"),
    [(4, 4), ("10", 10), (" 7 ", 7), ("     7", 7), ("00010", None), (0, None), (11, None),
     ("hard", None), (2.5, None), (True, None), (None, None), ("", None), ("9" * 5000, None)],
)  # fmt: skip
def test_a_difficulty_on_another_scale_is_not_ours(value, rating):
    row = {"instruction": "Add.", "output": "3", "difficulty": value}
    assert read("alpaca", row).difficulty == rating


BAD = [
    ("alpaca", {"input": "a", "output": "b"}, "missing_field", "field 'instruction' is missing"),
    ("alpaca", {"instruction": "a", "output": None}, "missing_field", "field 'output' is missing"),
    ("alpaca", {"instruction": 3, "output": "b"}, "wrong_type", "'instruction': a text .* a number"),
    ("alpaca", {"instruction": "a", "output": ["b"]}, "wrong_type", "'output': a text .* a list"),
    ("alpaca", {"instruction": "a", "input": {}, "output": "b"}, "wrong_type", "'input'"),
    ("alpaca", {"instruction": "a\0", "output": "b"}, "null_byte", "'instruction' holds a null"),
    ("alpaca", {"instruction": "a", "output": "b", "history": "x"}, "wrong_type", "'history'"),
    ("alpaca", {"instruction": "a", "output": "b", "history": [["u"]]}, "wrong_type", "item 1"),
    ("alpaca", {"instruction": "a", "output": "b", "history": [["u", 1]]}, "wrong_type", "number"),
    ("self-instruct", {"instruction": "a", "instances": "b"}, "wrong_type", "'instances': a list"),
    ("self-instruct", {"instruction": "a", "instances": [1]}, "wrong_type", "instance 1: an object"),
    ("self-instruct", {"instruction": "a", "instances": [{"output": "b"}, {"input": "c"}]},
     "missing_field", "instance 2: field 'output' is missing"),
    ("self-instruct", {"instances": [{"output": "b"}]}, "missing_field", "'instruction'"),
    ("self-instruct", {"instruction": "a", "output": "b", "is_classification": "maybe"},
     "wrong_type", "true or false is expected, found 'maybe'"),
    ("parquet", {"instruction": "a", "output": "b", "further_turns": "[["}, "wrong_type", "JSON"),
    ("sharegpt", {"text": "a"}, "missing_field", "'conversations' is missing"),
    ("sharegpt", {"conversations": "a"}, "wrong_type", "'conversations': a list"),
    ("sharegpt", {"conversations": ["a"]}, "wrong_type", "turn 1: an object"),
    ("sharegpt", {"conversations": []}, "wrong_turn_order", "no user message"),
    ("sharegpt", {"conversations": talk(("system", "a"))}, "wrong_turn_order", "no user message"),
    ("sharegpt", {"conversations": [{"value": "a"}]}, "missing_field", "turn 1 does not say who"),
    ("sharegpt", {"conversations": [{"from": "human"}]}, "missing_field", "turn 1 has no text"),
    ("sharegpt", {"conversations": talk(("tool", "a"))}, "unknown_role", "turn 1 is by 'tool'"),
    ("sharegpt", {"conversations": talk(("gpt", "a"), ("human", "b"))}, "wrong_turn_order",
     "turn 1 is by the assistant, one by the user"),
    ("sharegpt", {"conversations": talk(("human", "a"), ("gpt", "b"), ("human", "c"))},
     "wrong_turn_order", "turn 3, the last one, is by the user"),
    ("sharegpt", {"conversations": talk(("human", "a"), ("human", "b"), ("gpt", "c"))},
     "wrong_turn_order", "turn 2 is by the user, one by the assistant"),
    ("sharegpt", {"conversations": talk(("human", "a"), ("gpt", "b"), ("system", "c"))},
     "wrong_turn_order", "turn 3 is by the system"),
    ("messages", {"messages": said(("user", "a"), ("assistant", None))}, "missing_field", "turn 2"),
    ("messages", {"messages": said(("user", [{"type": "image_url"}]), ("assistant", "b"))},
     "wrong_type", "turn 1 has a part that is no text .'image_url'"),
    ("messages", {"messages": said(("user", "a"), ("assistant", "b\0"))}, "null_byte", "turn 2"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "row", "reason", "detail"), BAD)
def test_a_row_that_is_wrong_says_where_and_how(format, row, reason, detail):
    with pytest.raises(BadRowError, match=detail) as found:
        read(format, row)
    assert found.value.reason == reason
