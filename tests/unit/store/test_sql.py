"""`evoloom sql`: each format holds what DuckDB holds, and errors are for people."""

import io
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from flows.query_output import write_parquet, write_text
from pipeline.errors import UsageError
from store.ingest import ingest
from store.snapshot import publish
from store.sql import run_sql
from tests.support.cli import InProcess, clean
from tests.support.run_directories import SyntheticRun, write_run

# One row with every kind of value that goes wrong somewhere, and one of NULLs.
VALUES = """
SELECT * FROM (VALUES
  (1, 170141183460469231731687303715884105727::HUGEINT, 9223372036854775807, 1.50::DECIMAL(4, 2),
   TIMESTAMP '2026-11-21 03:04:05.000006', [1, NULL, 3], {'verb': 'write', 'noun': NULL}, '', 'a,"b"\nc',
   '把句子 😀', '{"a": [1, {"b": "x\\ny"}]}'::JSON, TRUE, 0.1::DOUBLE),
  (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
) AS t(n, huge, big, dec, moment, list, struct, empty, tricky, wide, js, flag, dbl)
ORDER BY n
"""
HUGE = 170141183460469231731687303715884105727
BIG = 9223372036854775807


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sql") / "evoloom.duckdb"
    write_run(path, SyntheticRun("first", positions=6))
    ingest(path)
    publish(path)
    return path


@pytest.fixture
def evoloom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> InProcess:
    clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


def written(store: Path, query: str, file_format: str, *, wide: bool = False) -> str:
    out = io.StringIO()
    with run_sql(store, query) as result:
        write_text(result, out, file_format, wide=wide)
    return out.getvalue()


def read_back(store: Path, query: str, path: Path) -> pl.DataFrame:
    with path.open("wb") as out, run_sql(store, query) as result:
        write_parquet(result, out)
    return pl.read_parquet(path)


class TestFormats:
    def test_json_keeps_every_digit_null_nesting_and_letter(self, store: Path) -> None:
        first, second = json.loads(written(store, VALUES, "json"), parse_float=Decimal)
        assert first == {
            "n": 1, "huge": HUGE, "big": BIG, "dec": Decimal("1.50"),
            "moment": "2026-11-21T03:04:05.000006", "list": [1, None, 3],
            "struct": {"verb": "write", "noun": None}, "empty": "", "tricky": 'a,"b"\nc',
            "wide": "把句子 😀", "js": {"a": [1, {"b": "x\ny"}]}, "flag": True,
            "dbl": Decimal("0.1"),
        }  # fmt: skip
        assert second == {"n": 2, **dict.fromkeys(list(first)[1:])}

    def test_json_has_a_row_a_line_and_no_rows_are_an_empty_list(self, store: Path) -> None:
        assert written(store, "FROM range(3)", "json").splitlines() == [
            "[", '{"range": 0},', '{"range": 1},', '{"range": 2}', "]",
        ]  # fmt: skip
        assert json.loads(written(store, "SELECT 1 WHERE FALSE", "json")) == []

    def test_json_of_what_json_has_no_number_for(self, store: Path) -> None:
        query = (
            "SELECT 'nan'::DOUBLE AS a, '-inf'::DOUBLE AS b, '\\xAB'::BLOB AS c, MAP {1: 2} AS d"
        )
        (row,) = json.loads(written(store, query, "json"))
        assert row == {"a": "NaN", "b": "-Infinity", "c": "\\xAB", "d": {"1": 2}}

    def test_csv_is_read_back_by_duckdb_to_the_same_values(
        self, store: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "out.csv"
        path.write_text(written(store, VALUES, "csv"), encoding="utf-8", newline="")
        types = (
            "{'n': 'INTEGER', 'huge': 'HUGEINT', 'big': 'BIGINT', 'dec': 'DECIMAL(4,2)', "
            "'moment': 'TIMESTAMP', 'list': 'JSON', 'struct': 'JSON', 'empty': 'VARCHAR', "
            "'tricky': 'VARCHAR', 'wide': 'VARCHAR', 'js': 'JSON', 'flag': 'BOOLEAN', 'dbl': 'DOUBLE'}"
        )
        options = f"header = true, columns = {types}, allow_quoted_nulls = false"
        with duckdb.connect() as connection:
            first, second = connection.execute(
                f"FROM read_csv('{path}', {options}, nullstr = '')"
            ).fetchall()
        assert first[:5] == (1, HUGE, BIG, Decimal("1.50"), datetime(2026, 11, 21, 3, 4, 5, 6))  # noqa: DTZ001
        assert json.loads(first[5]) == [1, None, 3]
        assert json.loads(first[6]) == {"verb": "write", "noun": None}
        assert first[7:10] == ("", 'a,"b"\nc', "把句子 😀")
        assert json.loads(first[10]) == {"a": [1, {"b": "x\ny"}]}
        assert first[11:] == (True, 0.1)
        assert second == (2, *[None] * 12)

    def test_parquet_has_the_types_and_the_values(self, store: Path, tmp_path: Path) -> None:
        frame = read_back(store, VALUES, tmp_path / "out.parquet")
        assert frame.schema["huge"] == pl.Decimal(38, 0)
        assert frame.schema["moment"] == pl.Datetime("us")
        assert frame.schema["list"] == pl.List(pl.Int32)
        row = frame.row(0, named=True)
        assert (int(row["big"]), row["dec"], row["dbl"]) == (BIG, Decimal("1.50"), 0.1)
        assert row["moment"] == datetime(2026, 11, 21, 3, 4, 5, 6)  # noqa: DTZ001
        assert (row["list"], row["struct"]) == ([1, None, 3], {"verb": "write", "noun": None})
        assert (row["empty"], row["tricky"], row["wide"]) == ("", 'a,"b"\nc', "把句子 😀")
        assert set(frame.row(1)[1:]) == {None}
        with duckdb.connect() as connection:
            query = f"SELECT huge::HUGEINT FROM '{tmp_path / 'out.parquet'}'"
            assert connection.execute(query).fetchall() == [(HUGE,), (None,)]

    def test_parquet_without_rows_has_the_columns(self, store: Path, tmp_path: Path) -> None:
        frame = read_back(store, "SELECT * FROM runs WHERE FALSE", tmp_path / "out.parquet")
        assert frame.height == 0
        assert "manifest" in frame.columns

    def test_a_type_that_parquet_has_not_is_named(self, store: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"column::VARCHAR"):
            read_back(store, "SELECT INTERVAL 3 MONTHS AS i", tmp_path / "out.parquet")

    def test_a_table_aligns_by_what_is_seen(self, store: Path) -> None:
        query = "SELECT * FROM (VALUES ('把句', 5, NULL), ('a\nb', 1000, 'x')) AS t(text, n, more)"
        assert written(store, query, "table").splitlines() == [
            "text     n  more",
            "----  ----  ----",
            "把句     5  NULL",
            "a\\nb  1000  x",
            "(2 rows)",
        ]

    def test_a_table_cuts_long_cells_unless_it_is_wide(self, store: Path) -> None:
        query = "SELECT repeat('句', 100) AS t"
        assert written(store, query, "table").splitlines()[2] == "句" * 29 + "…"
        assert written(store, query, "table", wide=True).splitlines()[2] == "句" * 100

    def test_columns_of_one_name_are_told_apart(self, store: Path, tmp_path: Path) -> None:
        query = "SELECT 1 AS id, 2 AS id, 3 AS id_1, 4 AS id"
        expected = {"id": 1, "id_2": 2, "id_1": 3, "id_3": 4}
        assert json.loads(written(store, query, "json")) == [expected]
        assert read_back(store, query, tmp_path / "out.parquet").row(0, named=True) == expected

    @pytest.mark.parametrize("file_format", ["table", "csv", "json"])
    def test_more_rows_than_are_in_memory_at_once_all_come(
        self, store: Path, file_format: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("store.sql.ROWS_AT_ONCE", 7)
        monkeypatch.setattr("flows.query_output._MEASURED_ROWS", 5)
        text = written(store, "SELECT range + 100 AS n FROM range(50)", file_format)
        assert [number for number in range(100, 150) if str(number) in text] == list(
            range(100, 150)
        )


class TestStatements:
    def rows(self, store: Path, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(written(store, query, "json"))
        return found

    def test_of_several_the_last_one_is_written(self, store: Path) -> None:
        query = "CREATE TEMP TABLE t AS SELECT 7 AS x; SELECT 1; SELECT x + 1 AS y FROM t; -- end"
        assert self.rows(store, query) == [{"y": 8}]

    def test_what_is_not_a_select_has_rows_as_well(self, store: Path) -> None:
        assert {"name": "funnel"} in self.rows(store, "SHOW TABLES")
        assert self.rows(store, "DESCRIBE runs")[0]["column_name"] == "run_id"
        assert self.rows(store, "PIVOT (SELECT 'a' AS k, 1 AS v) ON k USING sum(v)") == [{"a": 1}]
        assert "Projection" in written(store, "EXPLAIN SELECT 1", "table")

    def test_the_time_is_utc(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        (row,) = self.rows(
            store, "SELECT date_diff('minute', taken_at, now()::TIMESTAMP) AS age FROM snapshot"
        )
        assert 0 <= row["age"] < 60

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            (
                "SELECT 1;\n\nSELECT foo\nFROM runs",
                r"Referenced column .foo.[\s\S]*LINE 3: SELECT foo",
            ),
            ("\n\nSELEC 1", r"syntax error[\s\S]*LINE 3: SELEC"),
            ("SELECT * FROM runz", r'Did you mean "runs"[\s\S]*SHOW TABLES'),
            ("SELECT 'x'::INTEGER", "Could not convert string 'x'"),
            ("DELETE FROM runs", "DELETE writes, and the snapshot is read-only"),
            ("CREATE TABLE t (i INTEGER)", "CREATE writes, and the snapshot is read-only"),
            ("WITH a AS (SELECT 1) INSERT INTO parsers SELECT 'a', now() FROM a", "INSERT writes"),
            ("COPY runs TO '/dev/null'", "COPY writes a file; use `--out FILE`"),
            ("ATTACH 'x.duckdb'", "ATTACH opens another database"),
            ("INSTALL httpfs", "LOAD installs or loads an extension"),
            ("EXPORT DATABASE 'x'", "evoloom store backup"),
            ("  -- nothing", "holds no statement"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(
        self, store: Path, query: str, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            written(store, query, "csv")
        assert str(caught.value).startswith("query: ")
        assert caught.value.exit_code == 2

    def test_the_caret_stays_under_its_place_when_the_line_gets_another_number(
        self, store: Path
    ) -> None:
        query = "SELECT 1;" + "\n" * 9 + "SELECT foo"
        with pytest.raises(UsageError) as caught:
            written(store, query, "csv")
        line, caret = str(caught.value).splitlines()[-2:]
        assert line == "LINE 10: SELECT foo"
        assert line[caret.index("^") : caret.rindex("^") + 1] == "foo"

    def test_an_error_while_rows_are_read_is_said_too(self, store: Path) -> None:
        query = "SELECT (CASE range WHEN 150000 THEN 'x' ELSE '1' END)::INTEGER FROM range(200000)"
        with pytest.raises(UsageError, match="Could not convert string 'x'"):
            written(store, query, "csv")


class TestCommand:
    def test_it_says_when_the_snapshot_was_taken_and_of_how_many_runs(
        self, store: Path, evoloom: InProcess
    ) -> None:
        ended = evoloom("sql", "SELECT 1 AS x", "--store", str(store), "--format", "csv")
        assert (ended.code, ended.out) == (0, "x\n1\n")
        assert "snapshot 1, taken 20" in ended.err
        assert "UTC, 1 run\n" in ended.err

    def test_a_file_is_replaced_whole_or_not_at_all(
        self, store: Path, evoloom: InProcess, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.json"
        arguments = ("--store", str(store), "--format", "json", "--out", str(out))
        assert evoloom("sql", "SELECT 1 AS x", *arguments).code == 0
        before = out.read_text()
        assert json.loads(before) == [{"x": 1}]
        failing = "SELECT (CASE range WHEN 90000 THEN 'x' ELSE '1' END)::INTEGER FROM range(100000)"
        assert evoloom("sql", failing, *arguments).code == 2
        assert out.read_text() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]

    def test_a_file_with_sql_is_named_in_its_errors(
        self, store: Path, evoloom: InProcess, tmp_path: Path
    ) -> None:
        path = tmp_path / "query.sql"
        path.write_text("SELECT 1;\nSELECT foo")
        ended = evoloom("sql", "--file", str(path), "--store", str(store))
        assert ended.code == 2
        assert f"{path}: Binder Error" in ended.err
        assert "LINE 2: SELECT foo" in ended.err
        path.write_text("\ufeffSELECT 3 AS x")
        arguments = ("--file", str(path), "--store", str(store), "--format", "csv")
        assert evoloom("sql", *arguments).out == "x\n3\n"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("SELECT 1", "--file", "x.sql"), "not both"),
            (("--file", "missing.sql"), "missing.sql: cannot be read"),
            (("SELECT 1", "--format", "csv", "--wide"), "--wide: is for tables"),
            (("SELECT 1", "--out", "missing/x.csv"), "missing/x.csv: cannot be written"),
            (("SELECT 1", "--store", "other.duckdb"), "no snapshot has been published yet"),
        ],
    )
    def test_wrong_arguments(
        self, store: Path, evoloom: InProcess, arguments: tuple[str, ...], message: str
    ) -> None:
        place = () if "--store" in arguments else ("--store", str(store))
        ended = evoloom("sql", *arguments, *place)
        assert ended.code == 2
        assert message in ended.err
