"""Dataset versions from the command line: made, found again, never changed, taken wherever a run is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import row_id
from store import checked_lines
from store.datasets import content_hash_of, list_datasets
from store.run_directory import read_manifest, spool_path
from store.run_rows import read_run_rows
from store.snapshot import open_snapshot
from store.spool import read_batches
from tests.support import runs
from tests.support.cli import InProcess, clean
from tests.support.teachers import TeacherProcess, running_teacher

WHEN = r"\d{4}-\d\d-\d\d"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TeacherProcess]:
    log = tmp_path_factory.mktemp("teacher") / "log"
    with running_teacher(log, "--answers", "valid") as process:
        yield process


@pytest.fixture(scope="module")
def grown(
    undisturbed: Path, teacher: TeacherProcess, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store with the run `night` and `first`, evolved from it; tests take copies."""
    store = runs.copy_store(undisturbed, tmp_path_factory.mktemp("grown") / "store")
    runs.evolve(store, teacher, "night", run_id="first", evol_instruct__rounds=1)
    return store


@pytest.fixture
def store(grown: Path, tmp_path: Path) -> Path:
    return runs.copy_store(grown, tmp_path / "store")


@pytest.fixture
def evoloom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, store: Path
) -> InProcess:
    clean(monkeypatch, tmp_path)
    monkeypatch.setenv("EVOLOOM_STORE__PATH", str(store))
    monkeypatch.setenv("EVOLOOM_STORE__ANALYSE", "false")
    return InProcess(monkeypatch, capsys)


def create(evoloom: InProcess, *arguments: str) -> dict[str, Any]:
    ended = evoloom("datasets", "create", *arguments, "--json")
    assert ended.code == 0, ended.err
    return dict(json.loads(ended.out))


def files(run_dir: Path) -> dict[str, bytes]:
    """A version's files, but for its state, where the ingest clears its flag."""
    return {path.name: path.read_bytes() for path in run_dir.iterdir() if path.name != "state.json"}


def alter(run_dir: Path, old: str, new: str) -> None:
    """Change a text in the spool, checksums and all."""
    path = spool_path(run_dir)
    batches = [batch for _, batch in read_batches(path)]
    lines = [checked_lines.encode(batch) for batch in batches]
    changed = [json.loads(line[9:].decode().replace(old, new)) for line in lines]
    assert [checked_lines.encode(value) for value in changed] != lines
    path.write_bytes(b"".join(checked_lines.encode(value) for value in changed))


def test_a_version_holds_what_its_runs_accepted_and_says_so(
    evoloom: InProcess, store: Path
) -> None:
    made = create(evoloom, "nightly", "night", "first")
    assert re.fullmatch(rf"nightly@{WHEN}\.1", made["run_id"])
    assert made["created"] is True
    assert made["inputs"] == ["night", "first"]
    version = runs.run_path(store, made["run_id"])
    rows = read_run_rows(version)
    night, first = (
        {row.text for row in runs.rows_of(store, run_id).instructions.values()
         if row.state == "accepted"}
        for run_id in ("night", "first")
    )  # fmt: skip
    assert night < first  # an evolution's pool holds its source
    assert {row.text for row in rows.instructions.values()} == night | first
    assert made["instructions"] == len(night | first) == len(rows.instructions)
    assert made["instances"] == len(rows.instances)
    # The source that `first` copied from `night` is not taken again.
    assert made["counts"][1]["instances"] > made["counts"][1]["new_instances"] > 0
    roots = {row.text: row.root for row in rows.instructions.values()}
    ids = {row_id("night", row.stage, row.position)
           for row in runs.rows_of(store, "night").instructions.values()}  # fmt: skip
    assert set(roots.values()) <= ids
    assert len(set(roots.values())) == len(night)
    shown = evoloom("datasets", "show", "nightly")
    assert shown.out == (version / "card.md").read_text()
    for part in (made["run_id"], made["content_hash"], "| `first` | evol-instruct | scripted |",
                 f"| Instances | {made['instances']} |"):  # fmt: skip
        assert part in shown.out
    listed = evoloom("datasets", "list")
    assert made["run_id"] in listed.out
    assert "night, first" in listed.out
    (value,) = json.loads(evoloom("datasets", "list", "nightly", "--json").out)
    assert value == {key: made[key] for key in value}
    with open_snapshot(store) as connection:
        query = ("SELECT count(DISTINCT i.id), count(DISTINCT n.id), count(DISTINCT root_id) "
                 "FROM instructions i JOIN instances n ON n.instruction_id = i.id "
                 "WHERE i.run_id = ?")  # fmt: skip
        counted = connection.execute(query, [made["run_id"]]).fetchone()
    assert counted == (made["instructions"], made["instances"], len(night))


def test_runs_shows_a_version_as_what_it_is(evoloom: InProcess) -> None:
    made = create(evoloom, "nightly", "night", "first")
    assert made["run_id"] in evoloom("runs").out
    shown = evoloom("runs", "show", "nightly").out
    assert f"run {made['run_id']}: completed" in shown
    assert f"{made['instances']} instances of night, first (all-accepted)" in shown
    assert re.search(r"instances accepted by first +\d+\n +an earlier run has them too +\d+", shown)
    assert "tokens" not in shown and "model None" not in shown
    assert json.loads(evoloom("runs", "show", "nightly", "--json").out)["kind"] == "dataset"


def test_the_same_content_is_not_made_again_and_other_content_is_the_next(
    evoloom: InProcess, store: Path
) -> None:
    one = create(evoloom, "nightly", "night", "first")
    again = create(evoloom, "nightly", "first", "night")
    assert (again["run_id"], again["created"]) == (one["run_id"], False)
    said = evoloom("datasets", "create", "nightly", one["run_id"])
    assert f"equals that of {one['run_id']}; no new version" in said.out
    two = create(evoloom, "nightly", "night")
    assert two["run_id"] == one["run_id"][:-1] + "2"
    # An older version is found too, and another name is another dataset.
    assert create(evoloom, "nightly", "night", "first")["run_id"] == one["run_id"]
    other = create(evoloom, "weekly", "nightly")
    assert other["run_id"].startswith("weekly@") and other["run_id"].endswith(".1")
    assert other["inputs"] == [two["run_id"]]  # the newest
    assert other["content_hash"] == two["content_hash"]
    assert [item.run_id for item in list_datasets(store)] == [
        one["run_id"], two["run_id"], other["run_id"],
    ]  # fmt: skip


def test_altered_rows_are_found_by_the_hash(evoloom: InProcess, store: Path) -> None:
    made = create(evoloom, "nightly", "night")
    version = runs.run_path(store, made["run_id"])
    assert content_hash_of(version) == made["content_hash"]
    (instance, *_) = read_run_rows(version).instances.values()
    alter(version, json.dumps(instance.output, ensure_ascii=False), '"Something else."')
    assert content_hash_of(version) != made["content_hash"]


def test_nothing_that_uses_a_version_changes_it(
    evoloom: InProcess, store: Path, tmp_path: Path, teacher: TeacherProcess
) -> None:
    made = create(evoloom, "nightly", "night")
    version = runs.run_path(store, made["run_id"])
    before = files(version)
    assert set(before) == {"manifest.json", "spool", "card.md"}
    assert evoloom("export", "nightly", "--out", str(tmp_path / "out.jsonl")).code == 0
    assert evoloom("datasets", "diff", "nightly", "first").code == 0
    assert evoloom("runs", "show", "nightly").code == 0
    assert evoloom("store", "rebuild").code == 0
    runs.evolve(store, teacher, "nightly", run_id="evolved", evol_instruct__rounds=1)
    for command in (("resume", made["run_id"]), ("rederive", made["run_id"])):
        ended = evoloom(*command)
        assert ended.code == 2
        assert "is of kind 'dataset'" in ended.err
    assert files(version) == before
    assert sorted(path.name for path in version.parent.iterdir()) == sorted(
        ["night", "first", "evolved", made["run_id"]]
    )


def test_a_name_means_its_newest_version_in_an_export(evoloom: InProcess, tmp_path: Path) -> None:
    one = create(evoloom, "nightly", "night")
    two = create(evoloom, "nightly", "first")
    out = {}
    for name in ("nightly", one["run_id"], two["run_id"]):
        ended = evoloom("export", name, "--out", str(tmp_path / name), "--json")
        assert ended.code == 0, ended.err
        out[name] = (tmp_path / name).read_bytes()
    assert out["nightly"] == out[two["run_id"]] != out[one["run_id"]]
    assert json.loads(ended.out)["run_id"] == two["run_id"]
    # `night` alone keeps its order; what holds an evolution is shuffled, as its run's export is.
    evoloom("export", "night", "--out", str(tmp_path / "night"))
    assert out[one["run_id"]] == (tmp_path / "night").read_bytes()
    evoloom("export", "first", "--out", str(tmp_path / "first"))
    first = (tmp_path / "first").read_bytes()
    assert sorted(out[two["run_id"]].splitlines()) == sorted(first.splitlines())


def test_an_evolution_starts_from_a_version_or_from_a_name(
    evoloom: InProcess, store: Path, teacher: TeacherProcess
) -> None:
    made = create(evoloom, "nightly", "night")
    for run_id, name in (("by-version", made["run_id"]), ("by-name", "nightly")):
        runs.evolve(
            store, teacher, name, run_id=run_id, evol_instruct__rounds=1, evol_instruct__limit=3
        )
        rows = list(runs.rows_of(store, run_id).instructions.values())
        assert [row.parent for row in rows if row.stage == "source"] == [
            f"{made['run_id']} dataset/{number}" for number in range(3)
        ]
        manifest = read_manifest(runs.run_path(store, run_id)).raw
        assert manifest["source"]["name"] == made["run_id"]
        assert manifest["config"]["evol_instruct"]["source"] == name
    # Lineages go on through the version to where its instructions came from.
    both = create(evoloom, "both", "by-name", "night")
    rows = list(read_run_rows(runs.run_path(store, both["run_id"])).instructions.values())
    night = {row_id("night", row.stage, row.position)
             for row in runs.rows_of(store, "night").instructions.values()}  # fmt: skip
    assert {row.root for row in rows} <= night


def test_novelty_is_measured_against_a_version(
    evoloom: InProcess, store: Path, teacher: TeacherProcess
) -> None:
    made = create(evoloom, "nightly", "night")
    runs.start(store, teacher, run_id="next", run__target=2, novelty__against=["nightly"])
    run_dir = runs.run_path(store, "next")
    manifest = read_manifest(run_dir)
    assert manifest.novelty_against == (made["run_id"],)
    assert manifest.raw["config"]["novelty"]["against"] == ["nightly"]
    text = (run_dir / "novelty_against.jsonl").read_text()
    kept = [json.loads(line) for line in text.split("\n")[:-1]]
    texts = [row.text for row in runs.rows_of(store, "night").instructions.values()
             if row.state == "accepted"]  # fmt: skip
    assert kept == [[made["run_id"], str(number), text] for number, text in enumerate(texts)]
    # The setting as it was given is still the same setting on resume.
    result = runs.resume(store, run_id="next", novelty__against=["nightly"])
    assert result.end.state == "completed"


def test_diff_says_what_only_one_has_and_what_changed(evoloom: InProcess, store: Path) -> None:
    made = create(evoloom, "nightly", "night")
    copy = store.with_name("evoloom.duckdb.runs") / "copy"
    version = runs.run_path(store, made["run_id"])
    copy.mkdir()
    for name, data in files(version).items():
        (copy / name).write_bytes(data.replace(made["run_id"].encode(), b"copy"))
    (copy / "state.json").write_bytes((version / "state.json").read_bytes())
    batches = [batch for _, batch in read_batches(spool_path(version))]
    changed, dropped = batches[0], batches[1]
    output = changed.instances[0].output
    altered = json.loads(
        checked_lines.encode(changed)[9:].decode().replace(
            json.dumps(output, ensure_ascii=False), '"Something else."'
        )
    )  # fmt: skip
    kept: list[Any] = [altered, *batches[2:]]
    spool_path(copy).write_bytes(b"".join(map(checked_lines.encode, kept)))
    value = json.loads(evoloom("datasets", "diff", "nightly", "copy", "--json").out)
    text = changed.instructions[0].text
    assert value["only_a"] == [dropped.instructions[0].text]
    assert (value["only_b"], value["equal"]) == ([], False)
    assert (value["a"], value["b"]) == (made["run_id"], "copy")
    assert value["changed"] == [{
        "instruction": text, "input": changed.instances[0].input,
        "outputs_a": [output], "outputs_b": ["Something else."],
    }]  # fmt: skip
    assert value["instructions_a"] == value["instructions_b"] + 1 == len(batches)
    assert value["instances_in_both"] == value["instances_b"] - 1
    shown = evoloom("datasets", "diff", "nightly", "copy").out
    assert "only in A: 1 instructions" in shown
    assert "      B: Something else." in shown
    same = evoloom("datasets", "diff", "nightly", "night")
    assert "both hold the same instances" in same.out
    assert (
        json.loads(evoloom("datasets", "diff", "nightly", "night", "--json").out)["equal"] is True
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "a@b", "night"), "dataset name 'a@b'"),
        (("create", "../x", "night"), "dataset name '../x'"),
        (("create", "first", "night"), "there is a run 'first'"),
        (("create", "nightly", "nobody"), "no run 'nobody'"),
        (("show", "nightly"), "no dataset version 'nightly'"),
        (("show", "night"), "no dataset version 'night'"),
        (("diff", "night", "nightly"), "no run 'nightly'"),
    ],
)
def test_bad_input_is_told_and_makes_nothing(
    evoloom: InProcess, store: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = evoloom("datasets", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert {path.name for path in runs.run_path(store).parent.iterdir()} == {"night", "first"}


def test_a_run_cannot_have_a_dataset_s_name(
    evoloom: InProcess, store: Path, tmp_path: Path
) -> None:
    """A name means the run with this id first: the dataset could not be reached any more."""
    made = create(evoloom, "nightly", "night")
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Name a tree.", "output": "Oak."}')
    ended = evoloom("import", "rows.jsonl", "--name", "nightly")
    assert ended.code == 2
    assert f"run id 'nightly': there is a dataset of this name ({made['run_id']}" in ended.err
    assert not runs.run_path(store, "nightly").exists()


def test_an_import_of_an_earlier_evoloom_with_a_version_s_id_hides_no_dataset(
    evoloom: InProcess, store: Path, tmp_path: Path
) -> None:
    made = create(evoloom, "nightly", "night")
    day = made["version"].partition(".")[0]
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Name a tree.", "output": "Oak."}')
    assert evoloom("import", "rows.jsonl", "--name", "trees").code == 0
    for run_id in (f"nightly@{day}.2", f"notes@{day}.1"):
        copied = runs.run_path(store, run_id)
        shutil.copytree(runs.run_path(store, "trees"), copied)
        manifest = copied / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"trees"', json.dumps(run_id)))
    listed = json.loads(evoloom("datasets", "list", "--json").out)
    assert [item["run_id"] for item in listed] == [made["run_id"]]
    assert evoloom("datasets", "show", "nightly").out.startswith(f"# {made['run_id']}")
    for name in ("notes", f"notes@{day}.1"):
        ended = evoloom("datasets", "show", name)
        assert (ended.code, f"no dataset version '{name}'" in ended.err) == (2, True)
    assert create(evoloom, "nightly", "first")["run_id"] == f"nightly@{day}.3"


def test_a_run_at_work_is_not_taken(evoloom: InProcess, store: Path) -> None:
    state = runs.run_path(store, "first") / "state.json"
    state.write_text(state.read_text().replace('"completed"', '"interrupted"'))
    ended = evoloom("datasets", "create", "nightly", "night", "first")
    assert ended.code == 2
    assert "run first is interrupted" in ended.err
    assert list_datasets(store) == []
