"""What is exported and imported again is what it was: field by field, or turn by turn."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows.import_source import ImportOptions
from flows.importing import import_files
from store.export import export_run
from store.exporting.formats import FORMATS
from store.run_directory import runs_directory
from tests.support import runs

Row = tuple[Any, ...]

TALK = [["And then?", "Nothing 😀."], ["Why\n\n'so'?", "写一首诗"]]
RICH: list[dict[str, Any]] = [
    {"instruction": "Say \"hi\",\r\nplease.\u2028", "input": "", "output": "hi\t<b>&amp;</b>\n",
     "is_classification": False, "difficulty": 3, "system": None, "further_turns": []},
    {"instruction": "Is it so? ", "input": " no\\n ", "output": "Yes", "is_classification": True,
     "difficulty": None, "system": None, "further_turns": []},
    {"instruction": "Is it so? ", "input": "b", "output": "No", "is_classification": True,
     "difficulty": None, "system": None, "further_turns": []},
    {"instruction": "Is it so? ", "input": "b", "output": "No", "is_classification": True,
     "difficulty": None, "system": None, "further_turns": []},
    {"instruction": "写一首诗 null", "input": "", "output": "null", "is_classification": None,
     "difficulty": 10, "system": None, "further_turns": []},
]  # fmt: skip
SPOKEN: list[dict[str, Any]] = [
    {**RICH[0], "system": "Be brief. "},
    {**RICH[4], "further_turns": TALK},
    {**RICH[4], "system": "Be kind.", "further_turns": TALK[:1]},
]


def import_file(store: Path, path: Path, run_id: str) -> None:
    (imported,) = import_files(store, [path], ImportOptions(is_strict=True), run_id).imports
    assert imported.counts.bad == {}
    assert imported.counts.empty == {}


def import_rows(store: Path, rows: list[dict[str, Any]], run_id: str) -> None:
    """Import rows with every field, which JSON Lines holds under the names of a table's columns."""
    path = store.with_name(f"{run_id}.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_files(store, [path], ImportOptions("alpaca"), run_id)


def files_of(store: Path, run_id: str, format: str, folder: Path) -> list[Path]:
    """The data files of an export."""
    suffix = ".parquet" if FORMATS[format].is_parquet else ".jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / (format if FORMATS[format].is_directory else f"{format}{suffix}")
    report = export_run(runs.run_path(store, run_id), format, out)  # type: ignore[arg-type]
    return [part.path for part in report.parts]


def fields_of(store: Path, run_id: str) -> list[Row]:
    """Every accepted row with all its fields, in admission order."""
    rows = runs.rows_of(store, run_id)
    grouped = rows.instances_by_instruction()
    return [
        (task.text, task.is_classification, task.difficulty, row.input, row.output, row.system,
         json.loads(row.further_turns or "[]"))
        for key, task in rows.instructions.items() if task.state == "accepted"
        for row in grouped[key] if row.state == "accepted"
    ]  # fmt: skip


def conversations_of(store: Path, run_id: str) -> list[str]:
    """Every accepted row as its conversation, whatever field a message stands in."""
    found = []
    for text, _, _, given, output, system, turns in fields_of(store, run_id):
        first = f"{text}\n{given}" if given.strip() else text
        found.append(json.dumps([system, [first, output], *turns]))
    return found


def sources(format: str) -> list[str]:
    return (
        ["rich", "spoken", "night"] if FORMATS[format].carries_conversations else ["rich", "night"]
    )


@pytest.fixture(scope="module")
def full(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of a teacher, and imports that use every field."""
    store = runs.copy_store(undisturbed, tmp_path_factory.mktemp("round") / "store")
    for run_id, rows in (("rich", RICH), ("spoken", SPOKEN)):
        import_rows(store, rows, run_id)
    return store


def test_the_imports_hold_what_they_were_made_of(full: Path) -> None:
    expected = [tuple(row.values()) for row in RICH]
    assert fields_of(full, "rich") == [
        (text, known, difficulty, given, output, system, turns)
        for text, given, output, known, difficulty, system, turns in expected
    ]
    assert len(fields_of(full, "night")) >= runs.TARGET


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_round_trip_loses_nothing(full: Path, tmp_path: Path, store: Path, format: str) -> None:
    for run_id in sources(format):
        (path,) = files_of(full, run_id, format, tmp_path / run_id)
        import_file(store, path, run_id)
        before, after = fields_of(full, run_id), fields_of(store, run_id)
        if FORMATS[format].is_parquet:
            assert after == before
        elif format == "alpaca":
            assert [(row[0], *row[3:5]) for row in after] == [(row[0], *row[3:5]) for row in before]
        else:
            assert Counter(conversations_of(store, run_id)) == Counter(
                conversations_of(full, run_id)
            )
        # And once more: what was imported is exported to the same bytes.
        (again,) = files_of(store, run_id, format, tmp_path / f"{run_id}-again")
        assert again.read_bytes() == path.read_bytes()


def test_duplicates_are_flagged_again(full: Path, tmp_path: Path, store: Path) -> None:
    (path,) = files_of(full, "rich", "alpaca", tmp_path)
    import_file(store, path, "rich")
    flags = [row.is_duplicate for row in runs.rows_of(store, "rich").instances.values()]
    assert flags == [False, False, False, True, False]


def test_a_split_comes_back_as_two_runs(full: Path, tmp_path: Path, store: Path) -> None:
    run_dir = runs.run_path(full, "night")
    report = export_run(run_dir, "parquet", tmp_path / "x.parquet", validation=0.3)
    paths = [part.path for part in report.parts]
    result = import_files(store, paths, ImportOptions(is_strict=True))
    found = [fields_of(store, item.run_id) for item in result.imports]
    assert [len(rows) for rows in found] == [part.rows for part in report.parts]
    before = sorted(map(repr, fields_of(full, "night")))
    assert sorted(map(repr, found[0] + found[1])) == before
    assert len(list(runs_directory(store).iterdir())) == 2


def test_real_seed_tasks_come_back(tmp_path: Path, store: Path, checkout: Path) -> None:
    folder = checkout.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared")
    import_file(store, folder / "self_instruct" / "seed_tasks.jsonl", "seeds")
    (path,) = files_of(store, "seeds", "hf", tmp_path)
    import_file(store, path, "again")
    before = fields_of(store, "seeds")
    assert fields_of(store, "again") == before
    with (folder / "self_instruct" / "seed_tasks.jsonl").open(encoding="utf-8") as lines:
        tasks = [json.loads(line) for line in lines]
    assert [(row[0], row[1], row[3], row[4]) for row in before] == [
        (task["instruction"], task["is_classification"], item["input"], item["output"])
        for task in tasks for item in task["instances"]
    ]  # fmt: skip
