"""JSON that two readers would read differently is refused; all other is read as Python reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.problems import Problem, field_name
from api.strict_json import MOST_NESTED, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), inner),
    max_leaves=30,
)  # fmt: skip


@given(VALUES, st.booleans())
def test_reads_what_json_writes(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"a": NaN}', "not_json"),
        (b"[-Infinity]", "not_json"),
        (b'{"a": 1, "a": 2}', "not_json"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "not_json"),
        (b"[" + b"9" * 40 + b"]", "not_json"),
        (b"[1,]", "not_json"),
        (b"", "not_json"),
        (b"\xff", "not_utf8"),
        (b'"a\x00"', "nul"),
        (b'{"a\\u0000": 1}', "nul"),
        (b'["\\ud83d"]', "half_surrogate"),
        (b'{"\\uDE00": 1}', "half_surrogate"),
        (b"[" * (MOST_NESTED + 1) + b"]" * (MOST_NESTED + 1), "json_too_deep"),
    ],
)
def test_refuses(data: bytes, code: str) -> None:
    with pytest.raises(Problem) as raised:
        parse_json(data)
    assert (raised.value.code, raised.value.status_code) == (code, 400)


def test_depth_is_of_brackets_outside_of_texts() -> None:
    deep = "[" * MOST_NESTED + "]" * MOST_NESTED
    assert parse_json(deep.encode()) == json.loads(deep)
    brackets = ['[{"' * 200, '\\"[[', "]" * 300]
    assert parse_json(json.dumps(brackets).encode()) == brackets
    assert parse_json(b'["\\ud83d\\ude00"]') == ["\U0001f600"]


def test_fields_are_named_as_people_write_them() -> None:
    assert (
        field_name(("body", "tasks", 3, "instances", 0, "output")) == "tasks[3].instances[0].output"
    )
    assert field_name(("query", "limit")) == "limit"
    assert field_name(("body",)) == "body"
