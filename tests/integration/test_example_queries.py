"""Every example query of docs/STORE.md, on a store that holds one of everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.analysis import analyse_store
from flows.curation import curate_dataset
from flows.datasets import create_dataset
from flows.import_source import ImportOptions
from flows.importing import import_files
from pipeline.config import load_settings
from pipeline.curation.recipe import load_recipe
from store.snapshot import open_snapshot
from tests.support import runs
from tests.support.teachers import ROOT, running_teacher

QUERIES = sorted((ROOT / "docs" / "queries").glob("*.sql"))


@pytest.fixture(scope="module")
def store_of_everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everything")
    store = folder / "evoloom.duckdb"
    rows = [
        {"instruction": text, "input": "", "output": "It is so."}
        for text in (
            "Write a poem about rain.",
            "Sort the list.",
            "What is a verb?",
            "Sort the list.",
        )
    ]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{not a row\n")
    import_files(store, [file], ImportOptions("alpaca", {}, False), "imported")
    with running_teacher(folder / "teacher.log") as teacher:
        prices = {"prices__prompt": 1.0, "prices__completion": 2.0}
        runs.start(store, teacher, **{"run.target": 8, **prices})
        runs.evolve(store, teacher, "imported", run_id="evolved", evol_instruct__rounds=2)
    create_dataset(store, "nightly", ["imported", runs.RUN, "evolved"])
    recipe = folder / "one.toml"
    recipe.write_text('description = "one"\nseed = 3\n[[steps]]\nstep = "random"\ncount = 1\n')
    settings = load_settings({"store.path": str(store)})
    curate_dataset(settings, "chosen", ["imported"], load_recipe(str(recipe)))
    analyse_store(store, processes=1)
    return store


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_returns_rows(store_of_everything: Path, path: Path) -> None:
    with open_snapshot(store_of_everything) as connection:
        rows = connection.execute(path.read_text("utf-8")).fetchall()
        names = [column[0] for column in connection.description or ()]
    assert rows
    # A column without any value says nothing of whether it is right; nobody was eliminated here.
    expected = {"reason"} if path.stem == "11-lineage" else set()
    empty = {name for name, column in zip(names, zip(*rows, strict=True), strict=True)
             if all(value is None for value in column)}  # fmt: skip
    assert empty <= expected


def test_there_are_fifteen() -> None:
    assert len(QUERIES) == 15


def test_answers_are_about_everything_in_the_store(store_of_everything: Path) -> None:
    """Not only rows, but the right ones, where the store's content is known."""
    with open_snapshot(store_of_everything) as connection:

        def answer(name: str, *columns: str) -> list[tuple[object, ...]]:
            (path,) = (path for path in QUERIES if path.stem[3:] == name)
            query = path.read_text("utf-8").rstrip().rstrip(";")
            return connection.execute(f"SELECT {', '.join(columns)} FROM ({query})").fetchall()

        kinds = {row[0] for row in answer("runs", "kind")}
        assert kinds == {"self-instruct", "evol-instruct", "import", "dataset"}
        assert ("Self-Instruct (paper)", 52445) in answer(
            "published-table", "run_id", "instructions"
        )
        assert ("imported", "sort", "list", 1) in answer(
            "sunburst", "run_id", "verb", "noun", "count"
        )
        assert ("imported", "question", "what", 1) in answer(
            "questions", "run_id", "kind", "question_word", "count"
        )
        assert [row[0] for row in answer("imports", "rows")] == [1]
        made_of = {
            taken_from: count
            for dataset, taken_from, count in answer(
                "datasets", "dataset", "taken_from", "instructions"
            )
            if str(dataset).startswith("nightly@")
        }
        assert made_of.keys() == {runs.RUN, "evolved", "imported"}
        assert {row[0] for row in answer("cost", "run_id")} == {runs.RUN, "evolved"}
        curated = answer("datasets", "dataset", "taken_from", "instructions", "percent")
        assert [row[1:] for row in curated if str(row[0]).startswith("chosen@")] == [
            ("imported", 1, 100.0)
        ]
        steps = answer("lineage", "depth", "run_id")
        assert steps[0] == (0, "imported") and max(depth for depth, _ in steps) > 0  # type: ignore[type-var]
