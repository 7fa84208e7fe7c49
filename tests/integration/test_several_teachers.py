"""Several endpoints of one model, and stages with a model of their own, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.costs import StageCost, stage_costs
from flows.execution import exit_code
from flows.runs import Listener, RunResult, start_run
from pipeline.config import dump, resolve
from pipeline.teacher.failures import TeacherSetupError
from store.queries import show_run
from store.run_directory import read_manifest
from tests.support import runs
from tests.support.children import start_child, wait_until
from tests.support.teachers import TeacherFactory, TeacherProcess, running_teacher

NOWHERE = "http://127.0.0.1:9/v1"
KEY = "a-key-that-must-not-be-written"


def settings_of(store: Path, **flags: Any) -> dict[str, Any]:
    return {
        "run.target": runs.TARGET, "run.seed": runs.SEED, "store.path": store,
        **runs.QUICK, **runs.dotted(flags),
    }  # fmt: skip


def start(store: Path, listener: Listener | None = None, **flags: Any) -> RunResult:
    settings = resolve(settings_of(store, **flags), flags_only=True).settings
    return start_run("self-instruct", settings, runs.RUN, listener)


class TestEndpoints:
    def test_two_that_share_a_run_make_the_bytes_of_one(
        self, undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teachers = [scripted_teacher(), scripted_teacher()]
        end = start(store, teacher__endpoints=[teacher.url for teacher in teachers]).end
        assert end.state == "completed"
        assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
        asked = [len(teacher.requests()) for teacher in teachers]
        assert min(asked) > sum(asked) / 4

    def test_one_that_is_killed_costs_no_pause_and_no_byte(
        self, undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        # More in flight at the one that is killed than failures in a row pause a run.
        killed, other = (scripted_teacher("--latency", "0.05", "0.1") for _ in range(2))
        arguments = runs.run_command(store, other, teacher__pause_after=2)
        place = arguments.index(f"teacher.base_url={other.url}")
        arguments[place] = f"teacher.endpoints={json.dumps([killed.url, other.url])}"
        child = start_child(store.parent, *arguments, "--quiet")
        wait_until(lambda: len(killed.requests()) > 10, "the teachers")
        killed.kill()
        assert child.wait() == 0, child.errors()
        assert runs.export_bytes(store) == runs.export_bytes(undisturbed)
        progress = (runs.run_path(store) / "progress.jsonl").read_text()
        records = [json.loads(line) for line in progress.splitlines()]
        assert "paused" not in {record["state"] for record in records}
        assert any(killed.url in text for record in records for text in record["warnings"])
        both = [row["seed"] for row in (*killed.requests(), *other.requests())]
        assert len(set(both)) == len(runs.journal_of(store))

    def test_a_run_pauses_when_all_are_away_and_goes_on_when_one_is_back(
        self, undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        teachers = [scripted_teacher("--latency", "0.02", "0.05") for _ in range(2)]
        arguments = runs.run_command(store, teachers[0])
        place = arguments.index(f"teacher.base_url={teachers[0].url}")
        urls = json.dumps([teacher.url for teacher in teachers])
        arguments[place] = f"teacher.endpoints={urls}"
        child = start_child(store.parent, *arguments, "--quiet")
        wait_until(lambda: all(len(teacher.requests()) > 5 for teacher in teachers), "the teachers")
        for teacher in teachers:
            teacher.kill()
        wait_until(lambda: runs.state_of(store).state == "paused", "the teachers")
        teachers[1].start()
        assert child.wait() == 0, child.errors()
        assert runs.export_bytes(store) == runs.export_bytes(undisturbed)

    def test_one_that_cannot_be_reached_is_a_warning(
        self, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        said: list[str] = []
        listener = Listener(message=said.append)
        teacher = scripted_teacher()
        end = start(store, listener, teacher__endpoints=[NOWHERE, teacher.url], run__target=2).end
        assert end.state == "completed"
        (warning,) = [text for text in said if text.startswith("warning")]
        assert NOWHERE in warning

    @pytest.mark.parametrize("flaw", ["model", "key", "all away", "not the same"])
    def test_what_cannot_be_used_is_named_before_anything_starts(
        self, store: Path, scripted_teacher: TeacherFactory, flaw: str
    ) -> None:
        sound = scripted_teacher()
        flags: dict[str, Any] = {"teacher__model": "scripted"}
        other = NOWHERE
        if flaw in ("model", "not the same"):
            other = scripted_teacher("--model", "another").url
        if flaw == "key":
            other = scripted_teacher("--key", "right").url
        if flaw == "not the same":
            flags = {}
        urls = [NOWHERE, "http://127.0.0.1:10/v1"] if flaw == "all away" else [sound.url, other]
        with pytest.raises(TeacherSetupError) as caught:
            start(store, teacher__endpoints=urls, **flags)
        assert caught.value.exit_code == 2
        assert other in str(caught.value)
        assert sound.requests() == []
        assert not runs.run_path(store).exists()


@dataclass(frozen=True)
class Mixed:
    """A run whose classification a chat model with a key of its own answered."""

    store: Path
    dear: TeacherProcess
    cheap: TeacherProcess

    def flags(self) -> dict[str, Any]:
        return {
            "teacher__base_url": self.dear.url,
            "teacher__stages__classify__base_url": self.cheap.url,
            "teacher__stages__classify__api": "chat",
            "teacher__stages__classify__api_key_variable": "CHEAP_KEY",
        }


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    folder = tmp_path_factory.mktemp("mixed")
    with (
        pytest.MonkeyPatch.context() as patch,
        running_teacher(folder / "dear.log", "--model", "dear", "--cached-share", "0.5") as dear,
        running_teacher(folder / "cheap.log", "--model", "org/cheap-1.5", "--key", KEY) as cheap,
    ):
        patch.setenv("CHEAP_KEY", KEY)
        made = Mixed(folder / "store" / "evoloom.duckdb", dear, cheap)
        end = start(
            made.store, **made.flags(),
            prices__prompt=10.0, prices__cached_prompt=1.0, prices__completion=20.0,
            prices__models={"org/cheap-1.5": {"prompt": 0.5, "completion": 2.0}},
        ).end  # fmt: skip
        assert end.state == "completed"
        yield made


class TestStages:
    def test_each_stage_asks_its_model_and_the_manifest_pins_it(self, mixed: Mixed) -> None:
        asked = {(row["model"], row["chat"]) for row in mixed.dear.requests()}
        assert asked == {("dear", False)}
        assert {(row["model"], row["chat"]) for row in mixed.cheap.requests()} == {
            ("org/cheap-1.5", True)
        }
        for entry in runs.journal_of(mixed.store):
            model = "org/cheap-1.5" if entry.address.stage == "classify" else "dear"
            assert entry.parameters["model"] == model
        text = (runs.run_path(mixed.store) / "manifest.json").read_text()
        manifest = json.loads(text)
        assert manifest["model"] == "dear"
        pinned = manifest["stage_models"]["classify"]
        assert (pinned["model"], pinned["api"]) == ("org/cheap-1.5", "chat")
        assert KEY not in text
        for path in mixed.store.parent.rglob("*"):
            if path.is_file() and path.parent.name == runs.RUN:
                assert KEY.encode() not in path.read_bytes(), path

    def test_cost_and_cache_hits_are_each_stages_own(self, mixed: Mixed) -> None:
        shown = json.loads(
            runs.evoloom("runs", "show", runs.RUN, "--store", mixed.store, "--json").stdout
        )
        usage = {row["stage"]: row for row in shown["usage"]}
        assert usage["classify"]["model"] == "org/cheap-1.5"
        assert usage["generate"]["model"] == usage["instances"]["model"] == "dear"
        total = 0.0
        for stage, row in usage.items():
            tokens = row["usage"]
            fresh = tokens["prompt_tokens"] - tokens["cached_tokens"]
            cost = (
                tokens["prompt_tokens"] * 0.5 + tokens["completion_tokens"] * 2.0
                if stage == "classify"
                else fresh * 10 + tokens["cached_tokens"] + tokens["completion_tokens"] * 20
            ) / 1e6
            share = 0.0 if stage == "classify" else 0.5
            assert row["cost"] == pytest.approx(cost, abs=1e-6)
            assert row["cached_share"] == pytest.approx(share, abs=0.01)
            assert row["cost_per_accepted"] == pytest.approx(cost / runs.TARGET, abs=1e-6)
            total += cost
        assert shown["cost"] == pytest.approx(total, abs=1e-5)
        record = json.loads(
            (runs.run_path(mixed.store) / "progress.jsonl").read_text().splitlines()[-1]
        )
        for stage, row in usage.items():
            counted = record["stages"][stage]
            assert counted["cost"] == pytest.approx(row["cost"], abs=1e-6)
            assert counted["requests"] == row["requests"]
            for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
                assert counted[name] == row["usage"][name]
        assert record["cost"] == pytest.approx(total, abs=1e-5)
        text = runs.evoloom("runs", "show", runs.RUN, "--store", mixed.store).stdout
        assert "org/cheap-1.5" in text
        assert "50.0%" in text

    def test_resume_asks_the_pinned_model_wherever_it_is_now(
        self, mixed: Mixed, tmp_path: Path, scripted_teacher: TeacherFactory
    ) -> None:
        store = tmp_path / "part" / "evoloom.duckdb"
        part = start(store, **mixed.flags(), caps__tokens=30_000)
        assert part.end.reason == "cap"
        other = scripted_teacher("--model", "another")
        with pytest.raises(TeacherSetupError, match=r"no model 'org/cheap-1.5'"):
            runs.resume(store, teacher__stages__classify__base_url=other.url)
        moved = scripted_teacher("--model", "org/cheap-1.5")
        flags: dict[str, Any] = {
            "teacher__stages__classify__base_url": moved.url,
            "caps__tokens": 10_000_000,
        }
        assert runs.resume(store, **flags).end.state == "completed"
        assert {row["model"] for row in moved.requests()} == {"org/cheap-1.5"}
        assert runs.export_bytes(store) == runs.export_bytes(mixed.store)
        with pytest.raises(Exception, match=r"teacher.stages.classify.model.*pinned"):
            runs.resume(store, teacher__stages__classify__model="other")

    def test_the_teachers_key_does_not_go_to_a_stages_address(
        self, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        dear, cheap = scripted_teacher("--key", KEY), scripted_teacher("--key", KEY)
        with pytest.raises(TeacherSetupError) as caught:
            start(store, teacher__base_url=dear.url, teacher__api_key=KEY,
                  teacher__stages__classify__base_url=cheap.url)  # fmt: skip
        for part in (cheap.url, "teacher.stages.classify.api_key_variable"):
            assert part in str(caught.value)

    def test_a_variable_without_a_key_is_named(
        self, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        with pytest.raises(TeacherSetupError, match="NO_SUCH_KEY is not set"):
            start(store, teacher__base_url=scripted_teacher().url,
                  teacher__stages__classify__model="scripted",
                  teacher__stages__classify__api_key_variable="NO_SUCH_KEY")  # fmt: skip

    def test_a_run_without_any_stage_for_it_starts_no_engine(
        self, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        url = scripted_teacher().url
        stages: dict[str, Any] = {f"teacher__stages__{stage}__base_url": url
                  for stage in ("generate", "classify", "instances")}  # fmt: skip
        assert start(store, run__target=2, **stages).end.state == "completed"
        assert read_manifest(runs.run_path(store)).raw["model"] == "scripted"

    def test_an_outage_of_one_stages_teacher_is_waited_for(
        self, store: Path, scripted_teacher: TeacherFactory
    ) -> None:
        dear, cheap = scripted_teacher(), scripted_teacher()
        flags = {"teacher.stages.classify.base_url": cheap.url, "teacher.stuck_after": 3,
                 "teacher.concurrency": 4}  # fmt: skip
        arguments = runs.run_command(store, dear, **flags)
        child = start_child(store.parent, *arguments, "--quiet")
        wait_until(lambda: len(cheap.requests()) > 3, "the teachers")
        cheap.kill()
        wait_until(lambda: runs.state_of(store).state == "paused", "the teachers")
        reason = runs.state_of(store).reason
        assert reason is not None
        assert "classify" in reason
        cheap.start()
        assert child.wait() == 0, child.errors()


def test_a_cap_counts_each_models_price(store: Path, scripted_teacher: TeacherFactory) -> None:
    dear, cheap = scripted_teacher("--model", "dear"), scripted_teacher("--model", "cheap")
    result = start(
        store, teacher__base_url=dear.url, teacher__stages__classify__base_url=cheap.url,
        prices__models={"dear": {"prompt": 1.0, "completion": 4.0}}, caps__cost=0.02,
    )  # fmt: skip
    assert (result.end.reason, exit_code(result.end)) == ("cap", 75)
    usages = [entry.outcome.usage for entry in runs.journal_of(store)  # type: ignore[union-attr]
              if entry.parameters["model"] == "dear"]  # fmt: skip
    cost = sum(usage.prompt_tokens + 4 * usage.completion_tokens for usage in usages if usage) / 1e6
    assert 0.01 < cost <= 0.02
    assert cheap.requests()


def test_an_evolution_has_a_judge_of_its_own(
    undisturbed: Path, store: Path, scripted_teacher: TeacherFactory
) -> None:
    source = store.parent / "source.json"
    rows = [{"instruction": f"Name {n} rivers of Europe and their seas.", "input": "", "output": "No."}
            for n in range(4)]  # fmt: skip
    source.write_text(json.dumps(rows))
    dear, judge = scripted_teacher(), scripted_teacher("--model", "judge", "--owner", "vllm")
    result = runs.evolve(store, dear, source, evol_instruct__rounds=1,
                         teacher__stages__judge__base_url=judge.url)  # fmt: skip
    assert result.end.state == "completed"
    asked = judge.requests()
    assert asked
    assert {row["stage"] for row in asked} == {"judge"}
    # Its endpoint is vLLM, the teacher's is not: only the judge is held to a choice.
    assert all("structured_outputs" in row["fields"] for row in asked)
    assert "judge" not in {row["stage"] for row in dear.requests()}
    models = {cost.stage: cost.model for cost in _costs(store)}
    assert models["judge"] == "judge"
    assert models["evolve"] == "scripted"


def _costs(store: Path) -> list[StageCost]:
    return stage_costs(show_run(store, runs.RUN))


def test_a_dry_run_reckons_each_stage_at_its_price(tmp_path: Path) -> None:
    profile = tmp_path / "evoloom.toml"
    profile.write_text(
        '[teacher]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "dear"\n'
        '[teacher.stages.classify]\nmodel = "org/cheap-1.5"\n'
        "[prices]\nprompt = 1.0\ncompletion = 1.0\n"
        '[prices.models."org/cheap-1.5"]\nprompt = 0.5\n'
    )
    arguments = ("run", "self-instruct", "--target", "10", "--dry-run", "--config", profile)
    shown = json.loads(runs.evoloom(*arguments, "--json").stdout)
    stages = {stage["stage"]: stage for stage in shown["stages"]}
    assert {name: stage["model"] for name, stage in stages.items()} == {
        "generate": "dear", "classify": "org/cheap-1.5", "instances": "dear"
    }  # fmt: skip
    assert stages["classify"]["cost"] == pytest.approx(
        stages["classify"]["prompt_tokens"] * 0.5 / 1e6, abs=1e-6
    )
    for name in ("generate", "instances"):
        tokens = stages[name]["prompt_tokens"] + stages[name]["completion_tokens"]
        assert stages[name]["cost"] == pytest.approx(tokens / 1e6, abs=1e-6)
    assert "org/cheap-1.5" in runs.evoloom(*arguments).stdout


def test_settings_of_stages_keep_the_key_out_of_manifests() -> None:
    values = {"teacher.stages.classify.api_key_variable": "CHEAP_KEY"}
    dumped = dump(resolve(values, flags_only=True).settings)
    assert dumped["teacher"]["stages"]["classify"]["api_key_variable"] == "CHEAP_KEY"
    assert "api_key" not in dumped["teacher"]
