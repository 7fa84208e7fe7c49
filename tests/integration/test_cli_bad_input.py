"""Bad input at the command line: exit code 2, a message that helps, no traceback, nothing started."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from pipeline.seeds import load_seeds
from store.run_directory import list_run_ids, runs_directory
from tests.support.cli import InProcess, clean, command, fixed_server, scripted_teacher

SECRET = "sk-never-shown-1234"
MODELS = json.dumps({"object": "list", "data": [
    {"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in ("m1", "m2")
]})  # fmt: skip


@pytest.fixture
def evoloom(monkeypatch, capsys, tmp_path) -> InProcess:
    clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


@pytest.fixture(scope="module")
def teacher():
    with scripted_teacher("--answers", "valid") as base_url:
        yield base_url


@pytest.fixture(scope="module")
def done(teacher, tmp_path_factory) -> Path:
    """A store with one finished run, `done`; tests do not write to it."""
    folder = tmp_path_factory.mktemp("done")
    ended = command(
        "run", "self-instruct", "--target", "2", "--seed", "1", "--run-id", "done", "--quiet",
        cwd=folder, env={"EVOLOOM_TEACHER__BASE_URL": teacher},
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return folder / "evoloom.duckdb"


def refused(ended, *parts: str) -> None:
    assert ended.code == 2, ended
    text = ended.err
    for part in parts:
        assert part in text, f"{part!r} is not in: {text}"
    assert "Traceback" not in text
    assert ended.out == ""


def nothing_started(folder: Path) -> None:
    assert list(folder.rglob("manifest.json")) == []
    assert list(folder.glob("*.runs/*")) == []
    assert not (folder / "evoloom.duckdb").exists()


START = ("run", "self-instruct")


def seed_file(folder: Path, count: int) -> str:
    path = folder / "seeds.jsonl"
    rows = [json.dumps(seed.to_json()) for seed in load_seeds(None)[:count]]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


class TestStart:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["--target", "0"], ["run.target", "flag", "greater than 0", "got 0"]),
            (["--target", "ten"], ["--target", "integer"]),
            (["--sede", "1"], ["--sede"]),
            (["--set", "novelty.treshold=0.5"], ["novelty.treshold", "'novelty.threshold'"]),
            (["--set", "novelty.threshold=7"], ["novelty.threshold", "7"]),
            (["--set", "teacher.timeout_s=long"], ["teacher.timeout_s", "number", "'long'"]),
            (["--set", "novelty"], ["--set novelty", "SECTION.KEY=VALUE"]),
            (["--set", "seeds.shots_directory=gone"], ["seeds.shots_directory", "gone"]),
            (["--set", "prompts.directory=gone"], ["prompts.directory", "gone", "not a directory"]),
            (["--set", 'novelty.against=["gone"]'], ["no run 'gone'", "there: none"]),
            (["--set", "teacher.base_url=127.0.0.1:8000"], ["teacher.base_url", "http://"]),
            (["--config", "gone.toml"], ["gone.toml", "No such file"]),
            (["--seeds", "gone.jsonl"], ["seed file gone.jsonl", "No such file"]),
            (["--run-id", "a/b"], ["run id 'a/b'", "letters, digits"]),
            (["--run-id", "../a"], ["run id '../a'"]),
            (["--run-id", ".."], ["run id '..'"]),
            (["--run-id", ".hidden"], ["run id '.hidden'"]),
            (["--run-id", "a" * 129], ["128 at most"]),
            (["--run-id", "a b"], ["run id 'a b'"]),
            (["--run-id", "a\n"], ["run id 'a\\n'"]),
        ],
    )
    def test_flag(self, evoloom, tmp_path, teacher, arguments, parts):
        env = {"EVOLOOM_TEACHER__BASE_URL": teacher}
        if any("base_url" in argument for argument in arguments):
            env = {}
        refused(evoloom(*START, *arguments, **env), *parts)
        nothing_started(tmp_path)
        assert not (tmp_path.parent / "a").exists()

    def test_variable_and_file(self, evoloom, tmp_path, teacher):
        refused(
            evoloom(*START, EVOLOOM_TEACHER__MODLE="x"), "EVOLOOM_TEACHER__MODLE", "teacher.model"
        )
        refused(evoloom(*START, EVOLOOM_TECHER__MODEL="x"), "EVOLOOM_TECHER__MODEL", "section")
        Path("evoloom.toml").write_text("[run]\ntraget = 5\n")
        refused(evoloom(*START), "run.traget", "file evoloom.toml", "'run.target'")
        nothing_started(tmp_path)

    def test_seeds(self, evoloom, tmp_path, teacher):
        env = {"EVOLOOM_TEACHER__BASE_URL": teacher}
        path = seed_file(tmp_path, 7)
        refused(evoloom(*START, "--seeds", path, **env), "7 seed tasks", "8 shots", "seeds.file")
        with Path(path).open("a") as file:
            file.write('\n{"id": 7}\n')
        refused(evoloom(*START, "--seeds", path, **env), path, "line 9, field 'id'", "text",
                "seeds validate")  # fmt: skip
        nothing_started(tmp_path)

    def test_templates(self, evoloom, tmp_path, teacher):
        env = {"EVOLOOM_TEACHER__BASE_URL": teacher, "EVOLOOM_PROMPTS__DIRECTORY": str(tmp_path)}
        path = tmp_path / "output_first.completion.j2"
        for text, parts in (("{% if %}", ["line 1"]), ("{{ taks }}", ["'taks'", "instruction"])):
            path.write_text(text)
            refused(evoloom(*START, **env), "output_first.completion.j2", *parts)
        nothing_started(tmp_path)

    def test_run_id_taken(self, evoloom, teacher, done):
        before = sorted(done.parent.rglob("*"))
        ended = evoloom(*START, "--run-id", "done", "--store", str(done),
                        EVOLOOM_TEACHER__BASE_URL=teacher)  # fmt: skip
        refused(ended, "there is a run 'done' already", "evoloom resume done")
        assert sorted(done.parent.rglob("*")) == before


class TestTeacher:
    @pytest.mark.parametrize(
        ("answer", "env", "parts"),
        [
            ((200, MODELS), {}, ["2 models", "m1, m2", "teacher.model"]),
            ((200, MODELS), {"EVOLOOM_TEACHER__MODEL": "m3"}, ["no model 'm3'", "m1, m2"]),
            ((404, '{"detail": "Not Found"}'), {}, ["404", "/v1"]),
            ((200, "<html>welcome</html>", "text/html"), {}, ["not with the JSON", "/v1"]),
            ((401, '{"error": {"message": "bad key"}}'), {"EVOLOOM_TEACHER__API_KEY": SECRET},
             ["key was refused", "401", "EVOLOOM_TEACHER__API_KEY"]),
        ],
    )  # fmt: skip
    def test_answers_of_the_preflight(self, evoloom, tmp_path, answer, env, parts):
        with fixed_server(*answer) as base_url:
            ended = evoloom(*START, EVOLOOM_TEACHER__BASE_URL=base_url, **env)
        refused(ended, base_url, *parts)
        assert SECRET not in ended.err
        nothing_started(tmp_path)

    def test_nobody_there(self, tmp_path):
        ended = command(
            *START, cwd=tmp_path, env={"EVOLOOM_TEACHER__BASE_URL": "http://127.0.0.1:9/v1"}
        )
        refused(ended, "http://127.0.0.1:9/v1", "not reachable", "start it")
        nothing_started(tmp_path)


class TestStorePlace:
    def test_cannot_be_written(self, evoloom, tmp_path, teacher):
        env = {"EVOLOOM_TEACHER__BASE_URL": teacher}
        (tmp_path / "file").write_text("x")
        refused(
            evoloom(*START, "--store", "file/s.duckdb", **env), "store file/s.duckdb", "directory"
        )
        (tmp_path / "folder").mkdir()
        refused(
            evoloom(*START, "--store", "folder", **env), "store folder", "is a directory", "file"
        )
        refused(
            evoloom(*START, "--store", "a?b.duckdb", **env), "store a?b.duckdb", "'?'", "otherwise"
        )
        nothing_started(tmp_path)

    def test_somebody_elses_file(self, evoloom, tmp_path, teacher):
        (tmp_path / "s.duckdb").write_text("not a database")
        ended = evoloom(*START, "--store", "s.duckdb", EVOLOOM_TEACHER__BASE_URL=teacher)
        refused(ended, "s.duckdb", "--store")
        assert (tmp_path / "s.duckdb").read_text() == "not a database"
        nothing_started(tmp_path)

    def test_newer_version(self, evoloom, tmp_path, teacher):
        env = {"EVOLOOM_TEACHER__BASE_URL": teacher}
        assert evoloom("store", "rebuild").code == 0
        with duckdb.connect("evoloom.duckdb") as connection:
            connection.execute("UPDATE schema_version SET version = 900, evoloom_version = '9.9'"
                               " WHERE version = (SELECT max(version) FROM schema_version)")  # fmt: skip
        refused(evoloom(*START, **env), "evoloom.duckdb", "version 900", "9.9", "--store")
        assert list_run_ids(runs_directory(Path("evoloom.duckdb"))) == []


class TestResume:
    @pytest.mark.parametrize(
        ("arguments", "env", "parts"),
        [
            (["gone"], {}, ["no run 'gone'", "there: done"]),
            (["../done"], {}, ["no run '../done'"]),
            (["done", "--set", "novelty.threshold=0.5"], {},
             ["'novelty.threshold' (flag)", "0.5", "0.7", "pinned"]),
            (["done"], {"EVOLOOM_RUN__TARGET": "9"},
             ["'run.target' (environment EVOLOOM_RUN__TARGET)", "9", "2"]),
            (["done", "--config", "mine.toml"], {},
             ["'self_instruct.shots' (file mine.toml)", "6", "8"]),
            (["done", "--set", "novelty.treshold=1"], {}, ["novelty.treshold", "did you mean"]),
            (["done", "--give-up", "classify"], {}, ["--give-up classify", "classify/3.1"]),
            (["done", "--give-up", "classify/x"], {}, ["--give-up classify/x", "STAGE/POSITION"]),
            (["done", "--give-up", "classify/1/2/3"], {}, ["--give-up classify/1/2/3"]),
            (["done", "--give-up", ""], {}, ["--give-up"]),
        ],
    )  # fmt: skip
    def test_refused(self, evoloom, done, arguments, env, parts):
        Path("mine.toml").write_text("[self_instruct]\nshots = 6\n")
        refused(evoloom("resume", *arguments, "--store", str(done), **env), *parts)


class TestReading:
    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["export", "gone", "--out", "o"], ["no run 'gone'", "there: done"]),
            (["export", "../evoloom.duckdb.runs/done", "--out", "o"], ["no run '../evoloom"]),
            (["export", "", "--out", "o"], ["no run ''"]),
            (["export", "done", "--out", "o", "--format", "csv"], ["'csv'", "known: alpaca"]),
            (["export", "done", "--out", "gone/o"], ["gone/o", "No such file"]),
            (["export", "done", "--out", "."], [".: is a directory"]),
            (["export", "done"], ["--out"]),
            (["runs", "show", "gone"], ["no run 'gone'", "there: done"]),
            (["rederive", "gone"], ["no run 'gone'"]),
            (["rederive", "done", "--run-id", "../x"], ["run id '../x'"]),
            (["rederive", "done", "--set", "teacher.concurrency=2"], ["teacher.concurrency"]),
            (["rederive", "done", "--set", "novelty.treshold=2"], ["did you mean"]),
        ],
    )
    def test_refused(self, evoloom, tmp_path, done, arguments, parts):
        refused(evoloom(*arguments, "--store", str(done)), *parts)
        assert not (tmp_path / "o").exists()
        assert list_run_ids(runs_directory(done)) == ["done"]

    def test_config_show(self, evoloom):
        refused(evoloom("config", "show", "nosuch"), "'nosuch'", "teacher", "self_instruct")

    def test_seeds_validate(self, evoloom, tmp_path):
        path = seed_file(tmp_path, 2)
        with Path(path).open("a") as file:
            file.write('{\n{"id": 7}\n')
        ended = evoloom("seeds", "validate", path)
        assert ended.code == 2
        assert f"{path}, line 3: not valid JSON" in ended.out
        assert f"{path}, line 4, field 'id': a text is expected" in ended.out
        assert "2 sound tasks" in ended.out
        refused(evoloom("seeds", "validate", "gone.jsonl"), "gone.jsonl", "No such file")
        (tmp_path / "empty").write_text("")
        ended = evoloom("seeds", "validate", "empty")
        assert (ended.code, "holds no task" in ended.err) == (2, True)

    @pytest.mark.parametrize("arguments", [["nosuch"], ["run", "nosuch"], ["runs", "nosuch"]])
    def test_unknown_command(self, evoloom, arguments):
        refused(evoloom(*arguments), "nosuch")


def test_as_a_process(tmp_path):
    """What the installed command shows: no traceback, the exit code, nothing on standard output."""
    ended = command(*START, "--set", "novelty.threshold=1.5", cwd=tmp_path)
    refused(ended, "evoloom: setting 'novelty.threshold' (flag)", "1.5")
    nothing_started(tmp_path)
