"""Rows of JSON Lines, arrays, CSV and Parquet: every row, or why it cannot be read."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from pipeline.importing import BadRow, SourceRow, containers
from pipeline.importing.containers import open_rows
from pipeline.importing.json_array import read_array
from pipeline.importing.records import BrokenFileError, Container


def rows_of(data: bytes, container: Container) -> list[SourceRow | BadRow]:
    return list(open_rows(io.BytesIO(data), container, ["instruction", "output"]))


def good(data: bytes, container: Container) -> list[tuple[int, Any]]:
    found = []
    for row in rows_of(data, container):
        assert isinstance(row, SourceRow), row
        found.append((row.number, dict(row.fields)))
    return found


def bad(data: bytes, container: Container) -> list[tuple[int, str]]:
    return [(row.number, row.reason) for row in rows_of(data, container) if isinstance(row, BadRow)]


class TestJsonLines:
    def test_numbers_are_those_of_lines_and_blank_ones_are_no_rows(self):
        data = '\ufeff{"a": 1}\r\n\r\n  \n{"a": "\u2028é"}'.encode()
        assert good(data, "json_lines") == [(1, {"a": 1}), (4, {"a": "\u2028é"})]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b'{"a": 1', "not_json"),
            (b"nothing", "not_json"),
            (b"[" * 100_000, "not_json"),
            (b'{"a": ' + b"9" * 5000 + b"}", "not_json"),
            (b'{"a": "\xff"}', "not_utf8"),
            (b'{"a": "\xed\xa0\x80"}', "not_utf8"),
            (b'{"a": "x\0y"}', "null_byte"),
            (b"[1, 2]", "wrong_type"),
            (b"null", "wrong_type"),
        ],
    )
    def test_a_bad_line_is_reported_in_its_place(self, line, reason):
        rows = rows_of(b'{"a": 1}\n' + line + b'\n{"a": 2}\n', "json_lines")
        assert [row.number for row in rows] == [1, 2, 3]
        assert isinstance(rows[1], BadRow)
        assert rows[1].reason == reason
        # What is kept aside is the line, to the byte.
        assert rows[1].raw.encode("utf-8", "surrogateescape") == line

    def test_a_line_that_is_too_long_is_passed_over(self, monkeypatch):
        monkeypatch.setattr(containers, "MAX_ROW", 100)
        long = b'{"a": "' + b"x" * 500 + b'"}'
        data = b'{"a": 1}\n' + long + b'\n{"a": 2}\n' + long
        assert bad(data, "json_lines") == [(2, "too_long"), (4, "too_long")]
        assert [row.number for row in rows_of(data, "json_lines")] == [1, 2, 3, 4]


class TestJsonArray:
    @pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 2**16])
    def test_equals_json_however_the_text_is_cut(self, monkeypatch, step):
        monkeypatch.setattr("pipeline.importing.json_array._CHUNK_BYTES", step)
        values = [{"text": 'a "b" \\ \n é 😀', "n": n} for n in (12345, -1.5e-7, True, None)]
        mixed = [*values * 5, 123456789, "text ] , [", [], {}, [[{"deep": [1]}]], False]
        for data in (
            json.dumps(mixed, ensure_ascii=False),
            json.dumps(mixed, ensure_ascii=False, indent=2),
            json.dumps([*mixed, "\ud83d"], indent="\t"),
        ):
            stream = io.BytesIO(data.encode())
            assert [value for _, value, _ in read_array(stream, 10**6)] == json.loads(data)

    def test_empty_arrays(self):
        assert good(b"[]", "json_array") == good(b" [ \n ] \n", "json_array") == []

    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b'[{"a": 1}, {"a": 2', "row 2 is not valid JSON"),
            (b'[{"a": 1}, {"a": "never closed', "row 2 is not valid JSON"),
            (b'[{"a": 1}, {"a": nope}, {"a": 3}]', "row 2 is not valid JSON"),
            (b'[{"a": 1} {"a": 2}]', "after row 1: ',' or ']' expected, '{' found"),
            (b'[{"a": 1}', "after row 1: ',' or ']' expected, the end of the file found"),
            (b'[{"a": 1}] {"a": 2}', "after the array, which ends with row 1"),
            (b'[{"a": 1},]', "row 2 is not valid JSON"),
            (b'{"a": 1}', "no '['"),
        ],
    )
    def test_a_broken_array_is_refused(self, data, says):
        with pytest.raises(BrokenFileError, match=says.replace("[", r"\[").replace("]", r"\]")):
            rows_of(data, "json_array")

    def test_an_element_longer_than_allowed_is_refused(self):
        with pytest.raises(BrokenFileError, match="row 1 is longer than 1,000 characters"):
            list(read_array(io.BytesIO(b'["' + b"x" * 200_000), 1000))

    def test_a_row_that_is_no_object_or_not_utf8_is_reported_in_its_place(self):
        data = b'[{"a": 1}, 7, {"a": "\xff"}, {"a": "\\udcff"}]'
        assert bad(data, "json_array") == [(2, "wrong_type"), (3, "not_utf8")]


class TestCsv:
    def test_quoted_line_breaks_and_delimiters(self):
        data = (
            '\ufeffinstruction,output\r\n"Say ""hi"",\r\nplease",hi\r\n\r\nGreet,"a\nb"\r\n'
        ).encode()
        assert good(data, "csv") == [
            (1, {"instruction": 'Say "hi",\r\nplease', "output": "hi"}),
            (2, {"instruction": "Greet", "output": "a\nb"}),
        ]

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_the_delimiter_is_told_by_the_header(self, delimiter):
        other = "," if delimiter != "," else ";"
        data = delimiter.join(["instruction", "output"]) + "\n"
        data += delimiter.join([f"Name{other} if you can{other} a tree", "oak"]) + "\n"
        fields = {"instruction": f"Name{other} if you can{other} a tree", "output": "oak"}
        assert good(data.encode(), "csv") == [(1, fields)]

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            (b"only one", "wrong_columns"),
            (b"a,b,c", "wrong_columns"),
            (b'"a"b,c', "wrong_columns"),
            (b"a,\xff", "not_utf8"),
        ],
    )
    def test_a_bad_row_is_reported_in_its_place(self, row, reason):
        data = b"instruction,output\na,b\n" + row + b"\nc,d\n"
        assert bad(data, "csv") == [(2, reason)]
        assert [found.number for found in rows_of(data, "csv")] == [1, 2, 3]

    def test_a_quote_that_is_never_closed_is_one_bad_row(self):
        data = b'instruction,output\na,b\n"c,d\ne,f\n'
        rows = rows_of(data, "csv")
        assert bad(data, "csv") == [(2, "wrong_columns")]
        assert isinstance(rows[1], BadRow)
        assert rows[1].raw == '"c,d\ne,f'

    def test_a_header_that_names_a_column_twice_is_refused(self):
        with pytest.raises(BrokenFileError, match="twice: 'output'"):
            rows_of(b"instruction,output,output\na,b,c\n", "csv")


class TestParquet:
    def test_nested_columns_and_nulls(self):
        table = pyarrow.table(
            {
                "messages": [[{"role": "user", "content": "a"}], []],
                "n": pyarrow.array([None, 3], pyarrow.int64()),
            }
        )
        sink = io.BytesIO()
        parquet.write_table(table, sink)
        assert good(sink.getvalue(), "parquet") == [
            (1, {"messages": [{"role": "user", "content": "a"}], "n": None}),
            (2, {"messages": [], "n": 3}),
        ]

    def test_text_that_is_not_utf8_is_reported_in_its_place(self):
        binary = pyarrow.array([b"a", b"\xff", b"c"], pyarrow.binary())
        text = pyarrow.Array.from_buffers(pyarrow.string(), 3, binary.buffers())
        sink = io.BytesIO()
        parquet.write_table(pyarrow.table({"instruction": text}), sink)
        assert bad(sink.getvalue(), "parquet") == [(2, "not_utf8")]
        rows = rows_of(sink.getvalue(), "parquet")
        assert [row.number for row in rows] == [1, 2, 3]

    def test_what_is_no_parquet_is_refused(self):
        with pytest.raises(BrokenFileError, match="not a Parquet file"):
            rows_of(b"PAR1 but no more than that", "parquet")
