"""What the command line prints: help, completion, settings, JSON, progress; settings seen in a run."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from flows import cli
from pipeline.config import known_keys
from store.run_directory import runs_directory
from tests.support.cli import ROOT, InProcess, clean, environment, scripted_teacher

SECRET = "sk-never-shown-1234"
START = ("run", "self-instruct", "--target", "2", "--seed", "1", "--run-id", "r")


@pytest.fixture
def evoloom(monkeypatch, capsys, tmp_path) -> InProcess:
    clean(monkeypatch, tmp_path)
    return InProcess(monkeypatch, capsys)


@pytest.fixture(scope="module")
def teacher():
    with scripted_teacher("--answers", "valid") as base_url:
        yield base_url


def commands() -> list[tuple[str, ...]]:
    """Every command and group there is."""
    found: list[tuple[str, ...]] = []

    def walk(item: Any, path: tuple[str, ...]) -> None:
        found.append(path)
        for name, inner in getattr(item, "commands", {}).items():
            walk(inner, (*path, name))

    walk(typer.main.get_command(cli.app), ())
    return found


class TestHelp:
    @pytest.mark.parametrize("path", commands(), ids=" ".join)
    def test_mentions_every_option(self, evoloom, path):
        item = typer.main.get_command(cli.app)
        for name in path:
            item = item.commands[name]
        ended = evoloom(*path, "--help")
        assert (ended.code, ended.err) == (0, "")
        assert item.help or not path
        for parameter in item.params:
            for option in parameter.opts:
                # An argument is shown by its metavar, if it has one.
                named = (parameter.metavar or parameter.name or "").strip("[].")
                shown = option if option.startswith("-") else named
                assert shown.lower() in ended.out.lower()

    def test_of_the_whole_tells_where_to_start_and_the_exit_codes(self, evoloom):
        text = " ".join(evoloom("--help").out.split())
        for part in ("evoloom run self-instruct --target 12", "2 usage", "75 interrupted", "130"):
            assert part in text
        for name in ("run", "runs", "resume", "rederive", "export", "teacher", "config", "seeds"):
            assert f" {name} " in text

    def test_imports_nothing_heavy(self, tmp_path):
        code = ("import sys; sys.argv = ['evoloom', '--help']\n"
                "from flows.cli import main\n"
                "try: main()\n"
                "except SystemExit: pass\n"
                "heavy = {'pydantic', 'openai', 'duckdb', 'polars', 'numba', 'prefect', 'jinja2'}\n"
                "print(sorted(heavy & set(sys.modules)), file=sys.stderr)")  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(),
                              capture_output=True, text=True)  # fmt: skip
        assert done.stderr.strip() == "[]"

    def test_completion(self, tmp_path):
        # The shell that asks is looked up among the parents of the process: it has to be one.
        script = '"$0" --show-completion; exit $?'
        evoloom = Path(sys.executable).with_name("evoloom")
        ended = subprocess.run(
            ["bash", "-c", script, evoloom], cwd=tmp_path, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        assert "complete" in ended.stdout
        assert "COMP_WORDS" in ended.stdout


class TestConfigShow:
    def test_value_and_source_of_every_setting(self, evoloom):
        Path("evoloom.toml").write_text("[run]\ntarget = 5\nceiling = 5\n")
        env = {"EVOLOOM_RUN__CEILING": "6", "EVOLOOM_TEACHER__API_KEY": SECRET}
        ended = evoloom("config", "show", "--set", "novelty.threshold=0.5", **env)
        lines = ended.out.splitlines()
        assert {line.split(" = ")[0] for line in lines} == known_keys()
        for line in (
            "run.target = 5   [file evoloom.toml]",
            "run.ceiling = 6   [environment EVOLOOM_RUN__CEILING]",
            "novelty.threshold = 0.5   [flag]",
            "run.window = null   [default]",
            'teacher.api_key = "**********"   [environment EVOLOOM_TEACHER__API_KEY]',
        ):
            assert line in lines
        assert SECRET not in ended.out

    def test_json(self, evoloom):
        ended = evoloom(
            "config", "show", "--json", "--store", "x.duckdb", EVOLOOM_TEACHER__API_KEY=SECRET
        )
        value = json.loads(ended.out)
        assert set(value) == known_keys()
        assert value["store.path"] == {"value": "x.duckdb", "source": "flag", "operational": True}
        assert value["run.target"] == {"value": 100, "source": "default", "operational": False}
        assert SECRET not in ended.out
        assert ended.err == ""

    @pytest.mark.parametrize(
        ("name", "count"),
        [("novelty", 4), ("novelty.threshold", 1), ("self_instruct.generation", 12)],
    )
    def test_a_part(self, evoloom, name, count):
        lines = evoloom("config", "show", name).out.splitlines()
        assert len(lines) == count
        assert all(line.startswith(name) for line in lines)


class TestSeedsValidate:
    def test_bundled(self, evoloom):
        ended = evoloom("seeds", "validate", str(ROOT / "seeds/seed_tasks.jsonl"), "--json")
        value = json.loads(ended.out)
        assert (ended.code, value["tasks"], value["problems"]) == (0, 175, [])

    def test_problems_as_json(self, evoloom):
        Path("s.jsonl").write_text('{\n{"id": 7}\n')
        ended = evoloom("seeds", "validate", "s.jsonl", "--json")
        value = json.loads(ended.out)
        assert ended.code == 2
        assert value["tasks"] == 0
        assert {(item["line"], item["field"]) for item in value["problems"]} == {
            (1, None), (2, "id"), (2, "name"), (2, "instruction"), (2, "instances"),
            (2, "is_classification"),
        }  # fmt: skip


class TestRunOutput:
    def test_one_run_from_start_to_export(self, evoloom, teacher):
        env = {"EVOLOOM_TEACHER__BASE_URL": teacher, "EVOLOOM_TEACHER__API_KEY": SECRET}
        ended = evoloom(*START, "--json", **env)
        assert ended.code == 0, ended.err
        value = json.loads(ended.out)
        assert (value["run_id"], value["state"], value["accepted"]) == ("r", "completed", 2)
        assert re.search(r"^\[0:\d\d\] accepted 2/2 .*completed$", ended.err, re.MULTILINE)
        assert "\x1b" not in ended.err

        (listed,) = json.loads(evoloom("runs", "--json").out)
        assert (listed["run_id"], listed["accepted"], listed["target"]) == ("r", 2, 2)
        assert "r " in evoloom("runs").out
        shown = evoloom("runs", "show", "r", "--json")
        assert json.loads(shown.out) == value
        assert shown.err == ""
        assert "funnel" in evoloom("runs", "show", "r").out
        again = evoloom("resume", "r", "--json", **env)
        assert json.loads(again.out)["state"] == "completed"

        ended = evoloom("export", "r", "--out", "a.jsonl", "--json")
        report = json.loads(ended.out)
        rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
        assert (report["rows"], report["instructions"], report["partial"]) == (len(rows), 2, False)
        assert all(set(row) == {"instruction", "input", "output"} for row in rows)
        assert evoloom("export", "r", "--out", "a.json").code == 0
        assert json.loads(Path("a.json").read_text()) == rows
        ended = evoloom("export", "r", "--out", "-", "--json")
        assert [json.loads(line) for line in ended.out.splitlines()] == rows
        assert json.loads(ended.err)["rows"] == len(rows)

        ended = evoloom("rederive", "r", "--set", "filters.min_words=3", "--run-id", "q", "--json")
        assert json.loads(ended.out)["rederived_from"] == "r"
        assert json.loads(evoloom("store", "rebuild", "--json").out)["runs"] == ["q", "r"]

        for path in Path("evoloom.duckdb.runs").rglob("*"):
            assert path.is_dir() or SECRET.encode() not in path.read_bytes()

    def test_quiet_says_nothing(self, evoloom, teacher):
        ended = evoloom(*START, "--quiet", EVOLOOM_TEACHER__BASE_URL=teacher)
        assert (ended.code, ended.err) == (0, "")

    def test_no_runs(self, evoloom):
        assert evoloom("runs", "--json").out.strip() == "[]"
        assert "evoloom run self-instruct" in evoloom("runs").out

    def test_redraws_on_a_terminal(self, tmp_path, teacher):
        main, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *START, "--set", "run.progress_interval_s=0.05"],
            cwd=tmp_path,
            env=environment(
                {"EVOLOOM_TEACHER__BASE_URL": teacher, "TERM": "xterm", "COLUMNS": "100"}
            ),
            stdout=subprocess.PIPE,
            stderr=terminal,
        )
        os.close(terminal)
        shown = b""
        while select.select([main], [], [], 60)[0]:
            try:
                part = os.read(main, 65536)
            except OSError:  # the last writer is gone
                break
            if not part:
                break
            shown += part
        out = process.communicate(timeout=60)[0].decode()
        os.close(main)
        assert process.returncode == 0, shown
        assert b"\x1b[" in shown
        assert b"\x1b[1A" in shown  # the cursor goes up to draw again
        assert b"accepted" in shown
        assert not re.search(rb"\[0:\d\d\] accepted", shown)
        assert "funnel" in out
        assert "\x1b" not in out


class TestSettingsInARun:
    def run(self, evoloom: InProcess, teacher: str, *sets: str, code: int = 0) -> dict:
        flags = [part for item in sets for part in ("--set", item)]
        ended = evoloom(*START, "--json", "--quiet", *flags, EVOLOOM_TEACHER__BASE_URL=teacher)
        assert ended.code == code, ended.err
        return json.loads(ended.out)

    def test_prices(self, evoloom, teacher):
        value = self.run(evoloom, teacher, "prices.prompt=2", "prices.completion=10")
        usage = [row["usage"] for row in value["usage"]]
        cost = sum(u["prompt_tokens"] * 2 + u["completion_tokens"] * 10 for u in usage) / 1e6
        assert value["cost"] == pytest.approx(cost, abs=1e-6)
        assert cost > 0

    @pytest.mark.parametrize("cap", ["caps.tokens=1500", "caps.cost=0.0015"])
    def test_caps_and_resume_with_a_higher_one(self, evoloom, teacher, cap):
        value = self.run(evoloom, teacher, cap, "prices.prompt=1", "prices.completion=1", code=75)
        assert (value["state"], value["reason"]) == ("interrupted", "cap")
        again = evoloom("resume", "r", "--quiet", "--set", cap, EVOLOOM_TEACHER__BASE_URL=teacher)
        assert again.code == 75
        assert "stands at its cap" in again.err and "--set caps.cost=AMOUNT`" in again.err
        higher = cap.split("=")[0] + "=100000"
        ended = evoloom(
            "resume", "r", "--quiet", "--set", higher, EVOLOOM_TEACHER__BASE_URL=teacher
        )
        assert ended.code == 0, ended.err
        assert "run r: completed" in ended.out

    def test_chat(self, evoloom, tmp_path):
        log = tmp_path / "log"
        with scripted_teacher("--answers", "valid", "--log", str(log)) as base_url:
            value = self.run(evoloom, base_url, "teacher.api=chat")
        assert value["state"] == "completed"
        manifest = json.loads(Path("evoloom.duckdb.runs/r/manifest.json").read_text())
        assert all(name.endswith(".chat.j2") for name in manifest["templates"])

    def test_progress_interval(self, evoloom, teacher):
        counts = []
        for run_id, interval in (("a", 60), ("b", 0.001)):
            ended = evoloom(
                "run", "self-instruct", "--target", "40", "--run-id", run_id, "--quiet",
                "--set", f"run.progress_interval_s={interval}", EVOLOOM_TEACHER__BASE_URL=teacher,
            )  # fmt: skip
            assert ended.code == 0
            path = Path("evoloom.duckdb.runs") / run_id / "progress.jsonl"
            counts.append(len(path.read_text().splitlines()))
        assert counts[0] == 2  # the first and the last
        assert counts[1] > 2

    def test_store_path_and_ceiling(self, evoloom, tmp_path):
        Path("mine.toml").write_text("[store]\npath = 'deep/er/mine.duckdb'\n")
        with scripted_teacher("--answers", "valid", "--fail-after", "2") as base_url:
            arguments = ("--config", "mine.toml", "--quiet", "--set", "teacher.outage_limit_s=0.01",
                         "--set", "teacher.probe_interval_s=0.01",
                         "--set", "teacher.retry_max_s=0.01")  # fmt: skip
            ended = evoloom(*START, *arguments, EVOLOOM_TEACHER__BASE_URL=base_url)
            assert ended.code == 75, ended.err
            assert runs_directory(Path("deep/er/mine.duckdb")).is_dir()
            assert "--store deep/er/mine.duckdb" in ended.err
        with scripted_teacher("--answers", "valid") as base_url:
            ended = evoloom("resume", "r", *arguments, EVOLOOM_TEACHER__BASE_URL=base_url)
        assert ended.code == 0, ended.err
        assert Path("deep/er/mine.duckdb").exists()
        assert not Path("evoloom.duckdb").exists()
