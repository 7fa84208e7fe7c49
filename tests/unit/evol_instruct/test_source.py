"""Files that are evolved."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.evol_instruct.plan import SourceInstance, SourceInstruction
from pipeline.evol_instruct.source import decode_source, encode_source, read_alpaca

ROWS = [
    {"instruction": "Name a river.", "input": "", "output": "Rhine"},
    {"instruction": "Sum up.", "input": "The text.", "output": "Text"},
    {"instruction": "Sum up. ", "input": "Another.", "output": "Other"},
    {"instruction": "Say hello.", "output": None},
]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.jsonl.gz"])
def test_rows_with_one_instruction_are_one_source_instruction(tmp_path: Path, name: str) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    data = (json.dumps(ROWS, indent=1) if name == "a.json" else lines).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    source = read_alpaca(path)
    assert [item.text for item in source] == ["Name a river.", "Sum up.\nThe text.", "Say hello."]
    assert source[1].instances == (
        SourceInstance("The text.", "Text"), SourceInstance("Another.", "Other"),
    )  # fmt: skip
    assert decode_source(encode_source(source)) == source


def test_what_a_run_keeps_of_its_source_comes_back() -> None:
    lines = [
        SourceInstruction("Say \u2028 it.\nTwice", (SourceInstance("", "a"),), "a generate/3.1", True),
        SourceInstruction("Talk.", (SourceInstance("", "Hi", "Be brief.", '[["More", "No"]]'),)),
    ]  # fmt: skip
    assert decode_source(encode_source(lines)) == lines


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["holds no instruction"]),
        ('{"instruction": "a"', ["line 1", "JSON"]),
        ('{"instruction": "a"}\n{"text": "b"}\n', ["line 2", "'instruction'"]),
        ('{"instruction": "a"}\n\n{"instruction": "b", "input": 3}\n', ["line 3", "'input'"]),
        ('[{"instruction": "a"}, 4]', ["row 2", "an object"]),
        ("[1, 2", ["not valid JSON"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "source.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_alpaca(path)
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def test_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}")[:-4])
    with pytest.raises(UsageError, match=r"x\.jsonl\.gz"):
        read_alpaca(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="UTF-8"):
        read_alpaca(path)
