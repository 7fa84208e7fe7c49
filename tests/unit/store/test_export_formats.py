"""The shapes of an export's rows, and what is refused before anything is written."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.errors import UsageError
from pipeline.records import Batch, InstanceRow, InstructionRow
from store.export import InvalidRowError, export_run
from store.exporting.formats import FORMATS
from tests.support.run_directories import SyntheticRun, append_batches, write_run

SINGLE: dict[str, Any] = {"input": "2 and 3", "output": "5"}
TALK: dict[str, Any] = {
    "input": "", "output": "Hello.", "system": "Be brief.",
    "further_turns": json.dumps([["And again?", "Hello again."], ["Once more?", "No."]]),
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "evoloom.duckdb"


def imported(store: Path, *instances: dict[str, Any], **instruction: Any) -> Path:
    """An import with one instruction for each instance."""
    run_dir = write_run(store, SyntheticRun("file", positions=0, manifest={"kind": "import"}))
    batches = [
        Batch(
            "import", (row,),
            instructions=(InstructionRow(
                **{"stage": "import", "position": (row,), "text": f"Add {row}.", "state": "accepted",
                   **instruction}
            ),),
            instances=(InstanceRow("import", (row,), 0, state="accepted", **values),),
        )
        for row, values in enumerate(instances)
    ]  # fmt: skip
    append_batches(run_dir, batches)
    return run_dir


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


class TestShapes:
    def test_sharegpt(self, store: Path, tmp_path: Path) -> None:
        export_run(imported(store, SINGLE, TALK), "sharegpt", tmp_path / "out.jsonl")
        assert lines(tmp_path / "out.jsonl") == [
            {"conversations": [{"from": "human", "value": "Add 0.\n2 and 3"},
                               {"from": "gpt", "value": "5"}]},
            {"conversations": [{"from": "system", "value": "Be brief."},
                               {"from": "human", "value": "Add 1."},
                               {"from": "gpt", "value": "Hello."},
                               {"from": "human", "value": "And again?"},
                               {"from": "gpt", "value": "Hello again."},
                               {"from": "human", "value": "Once more?"},
                               {"from": "gpt", "value": "No."}]},
        ]  # fmt: skip

    def test_messages(self, store: Path, tmp_path: Path) -> None:
        export_run(imported(store, SINGLE, TALK), "messages", tmp_path / "out.json")
        first, second = json.loads((tmp_path / "out.json").read_text())
        assert first == {"messages": [{"role": "user", "content": "Add 0.\n2 and 3"},
                                      {"role": "assistant", "content": "5"}]}  # fmt: skip
        assert [item["role"] for item in second["messages"]] == [
            "system", "user", "assistant", "user", "assistant", "user", "assistant",
        ]  # fmt: skip
        assert [item["content"] for item in second["messages"]] == [
            "Be brief.", "Add 1.", "Hello.", "And again?", "Hello again.", "Once more?", "No.",
        ]  # fmt: skip

    def test_llama_factory_has_the_last_turn_and_those_before_it(
        self, store: Path, tmp_path: Path
    ) -> None:
        export_run(imported(store, SINGLE, TALK), "llama-factory", tmp_path / "my data")
        (info,) = json.loads((tmp_path / "my data" / "dataset_info.json").read_text()).items()
        assert info == ("my_data", {
            "file_name": "my_data.jsonl", "formatting": "alpaca",
            "columns": {"prompt": "instruction", "query": "input", "response": "output",
                        "system": "system", "history": "history"},
        })  # fmt: skip
        assert lines(tmp_path / "my data" / "my_data.jsonl") == [
            {"instruction": "Add 0.", "input": "2 and 3", "output": "5", "system": "",
             "history": []},
            {"instruction": "Once more?", "input": "", "output": "No.", "system": "Be brief.",
             "history": [["Add 1.", "Hello."], ["And again?", "Hello again."]]},
        ]  # fmt: skip

    def test_llama_factory_without_conversations_has_the_columns_of_alpaca(
        self, store: Path, tmp_path: Path
    ) -> None:
        export_run(imported(store, SINGLE), "llama-factory", tmp_path / "out")
        (info,) = json.loads((tmp_path / "out" / "dataset_info.json").read_text()).values()
        assert set(info["columns"]) == {"prompt", "query", "response"}
        (row,) = lines(tmp_path / "out" / "out.jsonl")
        assert list(row) == ["instruction", "input", "output"]

    @pytest.mark.parametrize("known", [True, False, None])
    def test_parquet_has_every_column_of_one_type(
        self, store: Path, tmp_path: Path, known: bool | None
    ) -> None:
        difficulty = None if known is None else 7
        run_dir = imported(store, SINGLE, TALK, is_classification=known, difficulty=difficulty)
        export_run(run_dir, "parquet", tmp_path / "out.parquet")
        table = pq.read_table(tmp_path / "out.parquet")
        assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
            "instruction": "string", "input": "string", "output": "string",
            "is_classification": "bool", "difficulty": "int32", "system": "string",
            "further_turns": "list<element: struct<user: string, assistant: string>>",
        }  # fmt: skip
        assert table.to_pylist() == [
            {"instruction": "Add 0.", **SINGLE, "is_classification": known,
             "difficulty": difficulty, "system": None, "further_turns": []},
            {"instruction": "Add 1.", "input": "", "output": "Hello.", "is_classification": known,
             "difficulty": difficulty, "system": "Be brief.",
             "further_turns": [{"user": "And again?", "assistant": "Hello again."},
                               {"user": "Once more?", "assistant": "No."}]},
        ]  # fmt: skip

    @pytest.mark.parametrize("format", FORMATS)
    def test_half_an_emoji_becomes_storable_in_all_of_them(
        self, store: Path, tmp_path: Path, format: Any
    ) -> None:
        half = "half \ud83d"
        values: dict[str, Any] = {"input": half, "output": half}
        if format != "alpaca":
            values |= {"system": half, "further_turns": json.dumps([[half, half]])}
        export_run(imported(store, values, text=half), format, tmp_path / "out")
        out = tmp_path / "out"
        files = {
            "hf": out / "data" / "train.parquet", "llama-factory": out / "out.jsonl", "parquet": out
        }  # fmt: skip
        path = files.get(format, out)
        found = (
            json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False)
            if FORMATS[format].is_parquet
            else path.read_text("utf-8")
        )
        assert found.count("half \ufffd") == (3 if format == "alpaca" else 6)


class TestRefused:
    def test_alpaca_refuses_conversations_and_names_formats_that_carry_them(
        self, store: Path, tmp_path: Path
    ) -> None:
        run_dir = imported(store, SINGLE, TALK, {**SINGLE, "system": "Be kind."})
        message = (
            "of 3 rows 1 have further turns and 2 a system message.*: sharegpt, messages, parq"
        )
        with pytest.raises(UsageError, match=message):
            export_run(run_dir, "alpaca", tmp_path / "out.jsonl")
        assert not (tmp_path / "out.jsonl").exists()

    BAD: tuple[tuple[dict[str, Any], str], ...] = (
        ({"output": " "}, "output is empty"),
        ({"output": 5}, "output is 5"),
        ({"output": None}, "output is None"),
        ({"input": None}, "input is None"),
        ({"input": ["a"]}, r"input is \['a'\]"),
        ({"system": ""}, "system is empty"),
        ({"system": 1}, "system is 1"),
        ({"further_turns": '[["And?", ""]]'}, "turn 2: the answer is empty"),
        ({"further_turns": '[["And?", "Yes."], ["So?"]]'}, "turn 3 is no pair"),
        ({"further_turns": '[[null, "Yes."]]'}, "turn 2: the user's message is None"),
        ({"further_turns": '{"a": 1}'}, "no list"),
        ({"further_turns": "[["}, "wrong order of turns"),
    )

    @pytest.mark.parametrize("format", FORMATS)
    @pytest.mark.parametrize(("change", "message"), BAD)
    def test_what_trainers_choke_on(
        self, store: Path, tmp_path: Path, format: Any, change: dict[str, Any], message: str
    ) -> None:
        run_dir = imported(store, SINGLE, {**SINGLE, **change})
        with pytest.raises(
            InvalidRowError, match=rf"instance 0 of instruction import/1: .*{message}"
        ):
            export_run(run_dir, format, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("change", "message"),
        [({"text": ""}, "instruction is empty"), ({"text": None}, "instruction is None"),
         ({"is_classification": "yes"}, "is_classification is 'yes'"),
         ({"difficulty": "hard"}, "difficulty is 'hard'"), ({"difficulty": True}, "is True")],
    )  # fmt: skip
    def test_an_instruction_of_the_wrong_type(
        self, store: Path, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InvalidRowError, match=message):
            export_run(imported(store, SINGLE, **change), "parquet", tmp_path / "out")

    def test_of_many_the_first_are_shown_and_the_rest_counted(
        self, store: Path, tmp_path: Path
    ) -> None:
        run_dir = imported(store, *[{**SINGLE, "output": ""}] * 7, SINGLE)
        with pytest.raises(InvalidRowError) as raised:
            export_run(run_dir, "alpaca", tmp_path / "out")
        text = str(raised.value)
        assert text.startswith("7 rows that trainers choke on")
        assert text.endswith("and 2 more") and text.count("output is empty") == 5


class TestPlaces:
    def test_two_parts_are_two_files(self, store: Path, tmp_path: Path) -> None:
        run_dir = imported(store, *[SINGLE] * 10)
        whole = export_run(run_dir, "alpaca", tmp_path / "all.jsonl")
        report = export_run(run_dir, "alpaca", tmp_path / "out.jsonl", validation=0.3)
        train, validation = tmp_path / "out.train.jsonl", tmp_path / "out.validation.jsonl"
        assert [(part.name, part.path, part.rows, part.instructions, part.roots)
                for part in report.parts] == [
            ("train", train, 7, 7, 7), ("validation", validation, 3, 3, 3),
        ]  # fmt: skip
        assert report.rows == whole.rows == 10
        every = lines(tmp_path / "all.jsonl")
        for path in (train, validation):  # otherwise in the same order
            rows = lines(path)
            assert rows == [row for row in every if row in rows]
        assert sorted(map(str, lines(train) + lines(validation))) == sorted(map(str, every))
        assert not (tmp_path / "out.jsonl").exists()

    @pytest.mark.parametrize(
        ("format", "validation", "message"),
        [("alpaca", 0.5, "two files"), ("parquet", None, "no text for standard output"),
         ("hf", None, "is a directory"), ("llama-factory", None, "is a directory")],
    )  # fmt: skip
    def test_what_cannot_go_to_standard_output(
        self, store: Path, format: Any, validation: float | None, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            export_run(imported(store, SINGLE, SINGLE), format, Path("-"), validation=validation)

    @pytest.mark.parametrize("format", ["hf", "llama-factory"])
    def test_a_directory_replaces_an_earlier_export_and_nothing_else(
        self, store: Path, tmp_path: Path, format: Any
    ) -> None:
        run_dir = imported(store, *[SINGLE] * 4)
        out = tmp_path / "out"
        export_run(run_dir, format, out, validation=0.5)
        assert len([path for path in out.rglob("*") if path.is_file()]) == 3
        export_run(run_dir, format, out)
        assert len([path for path in out.rglob("*") if path.is_file()]) == 2
        (out / "notes.txt").write_text("mine")
        with pytest.raises(UsageError, match=r"not of an export .*notes\.txt"):
            export_run(run_dir, format, out)
        assert (out / "notes.txt").read_text() == "mine"
        assert [path.name for path in tmp_path.glob(".out*")] == []
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="is a file"):
            export_run(run_dir, format, tmp_path / "file")

    def test_a_file_format_does_not_replace_a_directory(self, store: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is a directory"):
            export_run(imported(store, SINGLE), "parquet", tmp_path)
