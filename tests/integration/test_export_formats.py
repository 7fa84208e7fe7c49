"""Exports of real runs, read by those they are for: trainers' loaders, and people after a crash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from flows.datasets import create_dataset, export_dataset
from store.datasets import content_hash_of, list_datasets
from store.exporting.formats import FORMATS
from tests.support import runs
from tests.support.children import run_child
from tests.support.run_directories import SyntheticRun, write_run
from tests.support.teachers import ROOT, running_teacher

ALL = "all"
RUNS = ("night", "first", "second")
KILLED = ("tests.support.killed_export", "install")


@pytest.fixture(scope="module")
def grown(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run, `first` evolved from it, `second` evolved from that, and the dataset
    `all` of the three; tests do not write to it."""
    folder = tmp_path_factory.mktemp("grown")
    store = runs.copy_store(undisturbed, folder / "store")
    with running_teacher(folder / "teacher.log", "--answers", "valid") as teacher:
        runs.evolve(store, teacher, "night", run_id="first", evol_instruct__rounds=2)
        runs.evolve(store, teacher, "first", run_id="second", evol_instruct__rounds=1)
    create_dataset(store, ALL, RUNS)
    return store


def roots_by_text(store: Path) -> dict[str, str]:
    """The text that each instruction of the three runs descends from, by walking its parents."""
    rows = {
        f"{run_id} {row.stage}/{'.'.join(map(str, row.position))}": row
        for run_id in RUNS
        for row in runs.rows_of(store, run_id).instructions.values()
    }

    def root(place: str) -> str:
        parent = rows[place].parent
        if parent is None:
            return rows[place].text
        if " " in parent:
            return root(parent)
        run_id = place.split(" ")[0]
        if parent.startswith("source:"):
            return root(f"{run_id} source/{parent.removeprefix('source:')}")
        return root(f"{run_id} evolve/{parent}")

    return {row.text: root(place) for place, row in rows.items() if row.state == "accepted"}


def texts_of(path: Path) -> list[str]:
    return [str(json.loads(line)["instruction"]) for line in path.read_text().split("\n")[:-1]]


@pytest.mark.parametrize("name", [ALL, "first", "second"])
def test_a_split_never_parts_what_descends_from_one_instruction(
    grown: Path, tmp_path: Path, name: str
) -> None:
    roots = roots_by_text(grown)
    splits = set()
    for seed in range(5):
        out = tmp_path / f"{seed}.jsonl"
        report = export_dataset(grown, name, "alpaca", out, validation=0.2, split_seed=seed)
        train, validation = (texts_of(part.path) for part in report.parts)
        sides = [{roots[text] for text in texts} for texts in (train, validation)]
        assert not sides[0] & sides[1]
        assert [part.roots for part in report.parts] == [len(side) for side in sides]
        assert len(sides[1]) > 1
        # A lineage has as many rows as it has; the nearest sum of whole ones is very near here.
        assert abs(len(validation) - 0.2 * report.rows) <= 1
        splits.add(tuple(sorted(sides[1])))
        whole = tmp_path / "whole.jsonl"
        export_dataset(grown, name, "alpaca", whole)
        assert sorted(train + validation) == sorted(texts_of(whole))
    assert len(splits) > 1
    evolved = [text for text in roots if roots[text] != text]
    assert len(evolved) > 20  # there was something to part


LOAD = """
import json, sys
from datasets import load_dataset
cache, *folders = sys.argv[1:]
for folder in folders:
    found = load_dataset(folder, cache_dir=cache)
    print(json.dumps({
        split: {"rows": rows.to_list(), "features": {k: str(v) for k, v in rows.features.items()}}
        for split, rows in found.items()
    }))
"""


def load_datasets(cache: Path, *folders: Path) -> list[dict[str, Any]]:
    """What `datasets.load_dataset(DIR)` gives for each, without a network."""
    env = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, cache, *folders], env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_hugging_face_opens_the_directory(grown: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "whole", tmp_path / "split"]
    reports = [
        export_dataset(grown, ALL, "hf", folder, validation=validation)
        for folder, validation in zip(folders, (None, 0.25), strict=True)
    ]
    datasets = load_datasets(tmp_path / "cache", *folders)
    night = runs.rows_of(grown, "night").instructions.values()
    known = {row.text: row.is_classification for row in night}
    assert {True, False} <= set(known.values())
    for folder, report, loaded in zip(folders, reports, datasets, strict=True):
        assert list(loaded) == [part.name for part in report.parts]
        for part in report.parts:
            rows = loaded[part.name]["rows"]
            assert rows == pl.read_parquet(part.path).to_dicts()
            assert len(rows) == part.rows > 0
            assert loaded[part.name]["features"]["is_classification"] == "Value('bool')"
        every = [row for split in loaded.values() for row in split["rows"]]
        of_night = [row for row in every if row["instruction"] in known]
        assert of_night
        assert all(row["is_classification"] is known[row["instruction"]] for row in of_night)
        text = (folder / "README.md").read_text()
        _, head, card = text.split("---\n", 2)
        (config,) = yaml.safe_load(head)["configs"]
        assert [item["split"] for item in config["data_files"]] == list(loaded)
        assert yaml.safe_load(head)["size_categories"] == ["n<1K"]
        assert f"# {ALL}@" in card
        assert "Content hash: `sha256:" in card
        assert f"| Instances | {len(every)} |" in card


def test_the_card_of_a_runs_export_is_of_what_is_exported(grown: Path, tmp_path: Path) -> None:
    report = export_dataset(grown, "first", "hf", tmp_path / "hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "# first" in card
    assert f"| `first` | evol-instruct | scripted | {report.instructions} | {report.rows} |" in card
    assert f"| Instances | {report.rows} |" in card


def test_llama_factory_finds_every_column_that_the_description_names(
    grown: Path, tmp_path: Path
) -> None:
    """Against LLaMA-Factory's data/README.md: keys of a description, and what columns hold."""
    report = export_dataset(grown, ALL, "llama-factory", tmp_path / "lf", validation=0.1)
    info = json.loads((tmp_path / "lf" / "dataset_info.json").read_text())
    assert list(info) == ["lf_train", "lf_validation"]
    for (key, description), part in zip(info.items(), report.parts, strict=True):
        assert set(description) <= {"file_name", "formatting", "columns"}
        assert description["formatting"] == "alpaca"
        assert set(description["columns"]) <= {"prompt", "query", "response", "system", "history"}
        path = tmp_path / "lf" / description["file_name"]
        assert path == part.path == tmp_path / "lf" / f"{key}.jsonl"
        rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
        assert len(rows) == part.rows
        for row in rows:
            assert list(row) == list(description["columns"].values())
            assert all(isinstance(value, str) for value in row.values())
            assert row["instruction"].strip() and row["output"].strip()


EXPORT_ALL = """
import sys
from pathlib import Path
from tests.integration.test_export_formats import export_all
export_all(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def export_all(store: Path, folder: Path) -> None:
    """Every format, whole and split."""
    folder.mkdir()
    for name in FORMATS:
        for validation in (None, 0.2):
            export_dataset(store, ALL, name, folder / f"{name}-{validation}", validation=validation)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_bytes_of_every_format_depend_on_the_rows_alone(grown: Path, tmp_path: Path) -> None:
    export_all(grown, tmp_path / "here")
    done = subprocess.run(
        [sys.executable, "-c", EXPORT_ALL, grown, tmp_path / "there"], cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "12"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    here = tree(tmp_path / "here")
    assert here == tree(tmp_path / "there")
    # Four formats of one file or two, two of a directory with one file more.
    assert len(FORMATS) == 6
    assert len(here) == 4 * (1 + 2) + 2 * (2 + 3)


FULL = pytest.mark.verify_store


def kill_points(points: int, kills: int) -> list[int]:
    """From the last line of code to the first: of many, all but five are the last lines, where names
    are given."""
    last = [points - number for number in range(max(1, kills - 5))]
    rest = kills - len(last)
    return last + [1 + last[-1] * number // rest for number in reversed(range(rest))]


@pytest.mark.parametrize(
    ("form", "share", "kills"),
    [
        ("parquet", ("--validation", "0.3"), 3),
        ("hf", (), 3),
        pytest.param("alpaca", (), 20, marks=FULL),
        pytest.param("parquet", ("--validation", "0.3"), 20, marks=FULL),
        pytest.param("hf", ("--validation", "0.3"), 20, marks=FULL),
        pytest.param("llama-factory", (), 20, marks=FULL),
    ],
)
def test_a_kill_leaves_the_old_export_or_the_new(
    store: Path, tmp_path: Path, form: str, share: tuple[str, ...], kills: int
) -> None:
    for name, positions in (("old", 8), ("new", 12)):
        write_run(store, SyntheticRun(name, positions=positions, target=99, seed=positions))

    def export(run_id: str, folder: Path, kill_at: int = 0) -> int:
        """The exit code; the number of points is in `points` afterwards."""
        folder.mkdir(exist_ok=True)
        child = run_child(
            tmp_path, "export", run_id, "--format", form, "--out", folder / "out.data", *share,
            "--store", store, patch=(*KILLED, str(kill_at), str(tmp_path / "points")),
        )  # fmt: skip
        return child.wait()

    def seen(folder: Path) -> dict[str, bytes]:
        return {name: data for name, data in tree(folder).items() if not name.startswith(".")}

    assert export("old", tmp_path / "old") == export("new", tmp_path / "new") == 0
    old, new = seen(tmp_path / "old"), seen(tmp_path / "new")
    assert set(old) == set(new)
    assert old != new
    # The points of an export that has something to replace.
    shutil.copytree(tmp_path / "old", tmp_path / "counted")
    assert export("new", tmp_path / "counted") == 0
    points = int((tmp_path / "points").read_text())
    found = []
    for number, kill_at in enumerate(kill_points(points, kills)):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "old", folder)
        assert export("new", folder, kill_at) == -signal.SIGKILL
        left = seen(folder)
        # Of two files one may be missing for an instant: never two that do not belong together.
        assert any(left.items() <= side.items() for side in (old, new)), f"{kill_at} of {points}"
        assert left in (old, new) or (form == "parquet" and len(left) == 1)
        found.append(left)
    assert export("new", folder) == 0
    assert seen(folder) == new
    assert found[0] == new
    assert found[-1] == old


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=FULL)])
def test_a_killed_creation_leaves_no_version_or_a_whole_one(tmp_path: Path, kills: int) -> None:
    store = tmp_path / "store" / "evoloom.duckdb"
    write_run(store, SyntheticRun("night", positions=8, target=99))

    def create(at: Path, kill_at: int = 0) -> int:
        child = run_child(
            tmp_path, "datasets", "create", "kept", "night", "--store", at,
            patch=(*KILLED, str(kill_at), str(tmp_path / "points")),
        )  # fmt: skip
        return child.wait()

    whole = runs.copy_store(store, tmp_path / "whole")
    assert create(whole) == 0
    points = int((tmp_path / "points").read_text())
    (expected,) = list_datasets(whole)
    made = set()
    for number, kill_at in enumerate(kill_points(points, kills)):
        at = runs.copy_store(store, tmp_path / f"at-{number}")
        assert create(at, kill_at) == -signal.SIGKILL
        versions = list_datasets(at)
        assert len(versions) <= 1
        for version in versions:
            run_dir = runs.run_path(at, version.run_id)
            assert content_hash_of(run_dir) == version.content_hash == expected.content_hash
            assert (run_dir / "card.md").read_text()
        made.add(len(versions))
    assert create(at) == 0  # made now
    assert [item.content_hash for item in list_datasets(at)] == [expected.content_hash]
    assert made == {0, 1}
