"""What a file is told to be."""

from __future__ import annotations

import pytest

from pipeline.importing import detect_format
from pipeline.importing.detecting import detect_container, suggest_mapping, table_columns


@pytest.mark.parametrize(
    ("name", "head", "container"),
    [
        ("a.jsonl", b'{"a": 1}', "json_lines"),
        ("a.json", b' \n{"a": 1}\n{"a": 2}', "json_lines"),
        ("a.json", b"\xef\xbb\xbf [", "json_array"),
        ("a.jsonl.gz", b"[", "json_array"),
        ("a", b"{", "json_lines"),
        ("a.jsonl", b"not json", "json_lines"),
        ("a.csv", b"[topic],b", "csv"),
        ("a.TSV.gz", b"{a}\tb", "csv"),
        ("a.txt", b"instruction,output", "csv"),
        ("a.csv", b"PAR1...", "parquet"),
    ],
)
def test_containers(name, head, container):
    assert detect_container(name, head) == container


@pytest.mark.parametrize(
    ("container", "fields", "format"),
    [
        ("json_lines", "instruction input output", "alpaca"),
        ("json_array", "instruction input output id", "alpaca"),
        ("json_lines", "instruction output history", "alpaca"),
        ("json_lines", "instruction instances name", "self-instruct"),
        ("json_lines", "instruction input output is_classification", "self-instruct"),
        ("json_lines", "instruction output", "evol-instruct"),
        ("json_lines", "input output source_file", "evol-instruct"),
        ("json_lines", "id conversations", "sharegpt"),
        ("parquet", "id conversations", "sharegpt"),
        ("json_lines", "messages", "messages"),
        ("csv", "Question Answer", "csv"),
        ("parquet", "instruction output", "parquet"),
        ("csv", "question text", None),
        ("json_lines", "prompt completion", None),
        ("json_lines", "instruction", None),
        ("json_lines", "output", None),
        ("json_lines", "", None),
    ],
)
def test_formats(container, fields, format):
    assert detect_format(container, [dict.fromkeys(fields.split(), "")], {}) == format


def test_every_one_of_the_first_rows_counts():
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "input": "", "output": "b"}]
    assert detect_format("json_lines", rows, {}) == "alpaca"


def test_mapped_columns_count_as_the_fields_they_stand_for():
    row = {"question": "a", "answer": "b"}
    columns = {"instruction": "question", "output": "answer"}
    assert detect_format("json_lines", [row], columns) == "evol-instruct"


def test_columns_of_a_table_are_mapped_before_they_are_guessed():
    names = ["Prompt", "context", "Response", "instruction"]
    assert table_columns(names, {}) == {
        "instruction": "instruction", "input": "context", "output": "Response"
    }  # fmt: skip
    found = table_columns(names, {"instruction": "Prompt", "system": "context"})
    assert found == {"instruction": "Prompt", "system": "context", "output": "Response"}


def test_a_mapping_is_suggested_where_names_are_usual():
    flags = suggest_mapping(["prompt", "completion"])
    assert flags == "--map instruction=prompt --map output=completion"
    assert suggest_mapping(["prompt", "text"]) == ""
