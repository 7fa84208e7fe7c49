"""A student from a dataset to a comparison that can be believed: the bundled model, LoRA, vLLM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flows.evaluation_students import student_engine
from pipeline.student.methods import get_method, load_causal_model
from pipeline.student.serving import proof
from pipeline.student.serving.local import response_logprobs
from pipeline.student.serving.proof import Logprobs, Proof, UnprovenStudentError
from pipeline.student.serving.requests import StudentPrompts
from pipeline.student.serving.served import (
    AdapterError,
    load_adapter,
    score_now,
    unload_adapter,
)
from pipeline.student.trained import RESULT, TrainingRecord, load_tokenizer, read_training
from pipeline.teacher.engine import Engine, lease_engine
from pipeline.teacher.engine_settings import EngineSettings
from store.evaluations import ANSWERS, SERVING
from store.journal import read_entries
from store.run_directory import runs_directory
from store.snapshot import open_snapshot
from tests.support import cli
from tests.support.students import nursery

TRAINING = "lora-1"
TASK_FILE = """
task: nursery
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
"""


@dataclass(frozen=True)
class Served:
    """The trained student, its base and an engine that serves both."""

    store: Path
    record: TrainingRecord
    engine: Engine
    prompts: StudentPrompts

    @cached_property
    def base_scores(self) -> Logprobs:
        return self.scores(self.record.base_name)

    def scores(self, name: str) -> Logprobs:
        requests = proof.score_requests(self.prompts, name)
        return [score_now(self.engine.base_url, request) for request in requests]

    def reference(self, adapter: Path) -> Logprobs:
        method = get_method(self.record.method)
        settings = method.settings_type(**self.record.method_settings)
        model = method.load(
            load_causal_model(self.record.base_folder, self.record.dtype), adapter, settings
        )
        return [response_logprobs(model, request.token_ids, request.start)
                for request in proof.score_requests(self.prompts, "peft")]  # fmt: skip

    @cached_property
    def reference_base(self) -> Logprobs | None:
        if self.record.dtype == "float32":
            return None
        model = load_causal_model(self.record.base_folder, self.record.dtype)
        return [response_logprobs(model, request.token_ids, request.start)
                for request in proof.score_requests(self.prompts, "base")]  # fmt: skip

    def prove(self, name: str, adapter: Path, folder: Path) -> Proof:
        scaled = folder / f"{name}-x8"
        proof.scale_adapter(adapter, scaled, proof.SCALE)
        load_adapter(self.engine.base_url, name, adapter)

        def served_scaled() -> Logprobs:
            load_adapter(self.engine.base_url, scaled.name, scaled)
            return self.scores(scaled.name)

        return proof.prove_adapter(
            base=self.base_scores,
            served=self.scores(name),
            reference=self.reference(adapter),
            served_scaled=served_scaled,
            reference_scaled=lambda: self.reference(scaled),
            reference_base=self.reference_base,
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Iterator[Served]:
    """A training of 12 steps from a dataset version, and the engine that an evaluation of it uses."""
    folder = tmp_path_factory.mktemp("student")
    rows = [{"instruction": row.instruction, "input": row.input, "output": row.output}
            for row in nursery(60)]  # fmt: skip
    (folder / "animals.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    evoloom("import", "animals.jsonl", "--name", "zoo", cwd=folder)
    evoloom("datasets", "create", "animals", "zoo", cwd=folder)
    training = {"max_steps": 12, "batch_size": 2, "max_length": 64, "held_out": 0.1,
                "learning_rate": 0.002}  # fmt: skip
    flags = [part for key, value in training.items()
             for part in ("--set", f"training.{key}={value}")]  # fmt: skip
    evoloom("train", "animals", "--run-id", TRAINING, "--seed", "1", *flags, cwd=folder)
    store = folder / "evoloom.duckdb"
    record = read_training(runs_directory(store) / TRAINING)
    settings = student_engine(record, EngineSettings(), folder)
    settings = settings.model_copy(update={"enable_lora": True})
    prompts = StudentPrompts(load_tokenizer(record.base_folder), record.template)
    with lease_engine(settings) as lora_engine:
        yield Served(store, record, lora_engine, prompts)


def evoloom(*arguments: str, cwd: Path) -> Any:
    """Run a command that prints JSON."""
    env = {"EVOLOOM_STORE__ANALYSE": "false", "OMP_NUM_THREADS": "2"}
    done = cli.command(*arguments, "--json", cwd=cwd, env=env, timeout=1200)
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1]) if done.out.startswith("{") else done.out


def test_the_training_lowers_the_held_out_loss_in_the_memory_it_was_estimated_at(
    served: Served,
) -> None:
    run_dir = runs_directory(served.store) / TRAINING
    manifest = json.loads((run_dir / "manifest.json").read_text())
    result = json.loads((run_dir / RESULT).read_text())
    assert result["held_out_loss"] < result["base_held_out_loss"]
    share = manifest["estimated_memory_bytes"] / result["peak_memory_bytes"]
    print(f"estimated memory is {share:.2f} of the measured peak")
    assert 0.7 <= share <= 1.3


def test_an_adapter_is_applied_and_answers_next_to_its_base(served: Served, tmp_path: Path) -> None:
    found = served.prove(TRAINING, served.record.adapter_dir, tmp_path)
    assert found.tokens >= proof.LEAST_TOKENS
    print(
        f"served and PEFT differ by {found.disagreement:.2g} nats a token, {found.allowed:.2g} allowed"
    )
    assert found.disagreement <= found.allowed
    assert found.effect >= 10 * found.disagreement
    assert found.scaled_effect is None
    listed = httpx2.get(f"{served.engine.base_url}/models").json()["data"]
    assert {served.record.base_name, TRAINING} <= {model["id"] for model in listed}


def test_a_zeroed_adapter_fails_the_check(served: Served, tmp_path: Path) -> None:
    zeroed = tmp_path / "zeroed"
    proof.scale_adapter(served.record.adapter_dir, zeroed, 0.0)
    with pytest.raises(UnprovenStudentError, match="changes nothing that can be told"):
        served.prove("zeroed", zeroed, tmp_path)


@pytest.mark.verify_student
def test_an_adapter_too_weak_to_tell_is_checked_by_a_copy_scaled_by_8(
    served: Served, tmp_path: Path
) -> None:
    weak = tmp_path / "weak"
    # Less than ten times the rounding of the number format; eight times as much is not.
    factor = 2e-5 if served.record.dtype == "float32" else 0.1
    proof.scale_adapter(served.record.adapter_dir, weak, factor)
    found = served.prove("weak", weak, tmp_path)
    assert found.effect < 10 * found.disagreement
    assert found.scaled_effect is not None
    assert found.scaled_disagreement is not None
    assert found.scaled_effect >= 10 * found.scaled_disagreement


@pytest.mark.verify_student
def test_another_adapter_than_the_trained_one_fails_the_check(
    served: Served, tmp_path: Path
) -> None:
    """What the engine serves under the name is not what was trained: loaded from somewhere else."""
    other = tmp_path / "other"
    proof.scale_adapter(served.record.adapter_dir, other, -1.0)
    load_adapter(served.engine.base_url, "other", other)
    with pytest.raises(UnprovenStudentError, match="is not the student that was trained"):
        proof.prove_adapter(
            base=served.base_scores,
            served=served.scores("other"),
            reference=served.reference(served.record.adapter_dir),
            served_scaled=list,
            reference_scaled=list,
        )
    unload_adapter(served.engine.base_url, "other")


@pytest.mark.verify_student
def test_an_engine_without_adapters_says_so(engine: Engine, served: Served) -> None:
    with pytest.raises(AdapterError, match="without engine.enable_lora"):
        load_adapter(engine.base_url, TRAINING, served.record.adapter_dir)


def test_a_student_is_evaluated_end_to_end(served: Served) -> None:
    folder = served.store.parent
    shown = evoloom(*evaluation(folder), "--run-id", "eval-1", cwd=folder)
    assert (shown["serving"], shown["state"]) == ("adapter", "completed")
    rounds = served.record.dtype != "float32"
    most = proof.MOST_ROUNDED if rounds else proof.MOST_DISAGREEMENT
    assert shown["proof"]["disagreement"] <= most
    assert (shown["proof"]["rounding"] is not None) == rounds
    assert shown["judge"] == "smollm2-135m-instruct"

    with open_snapshot(served.store) as connection:
        rows = connection.execute(
            "SELECT part, metric, items, base, tuned, difference FROM evaluation_summary "
            "WHERE run_id = 'eval-1'"
        ).fetchall()
        # What the judge said is recorded; which it preferred is no part of this test.
        judged = connection.execute(
            "SELECT count(*) FROM completions WHERE run_id = 'eval-1' AND stage = 'judge'"
        ).fetchone()
        kinds = connection.execute(
            "SELECT DISTINCT verdict FROM evaluation_items WHERE part = 'user_oriented'"
        ).fetchall()
    found = {(part, metric): rest for part, metric, *rest in rows}
    items, base, tuned, difference = found["held_out", "nll"]
    assert (items, tuned < base, difference < 0) == (4, True, True)
    assert found["held_out", "rouge_l"][0] == 4
    assert found["user_oriented", "judge"][0] == 2
    assert judged is not None
    assert judged[0] >= 2 or kinds == [("identical",)]
    assert {kind for (kind,) in kinds} <= {"agreed", "inconsistent", "unreadable", "identical"}
    page = (folder / shown["report"]).read_text()
    assert "LoRA adapter in vLLM" in page
    assert "served and PEFT differ by" in page


@pytest.mark.verify_student
def test_benchmarks_go_against_the_same_endpoint_and_a_second_scoring_is_recorded(
    served: Served,
) -> None:
    folder = served.store.parent
    tasks = write_benchmark(folder)
    given = [*evaluation(folder), "--set", f"evaluation.benchmark_folder={tasks}"]
    evoloom(*given, "--benchmarks", "nursery", "--run-id", "bench-1", cwd=folder)
    with open_snapshot(served.store) as connection:
        found = connection.execute(
            "SELECT items, base, tuned FROM evaluation_summary "
            "WHERE run_id = 'bench-1' AND part = 'benchmark' AND metric = 'acc'"
        ).fetchone()
    assert found is not None
    items, base, tuned = found
    assert (items, 0 <= base <= 1, 0 <= tuned <= 1) == (4, True, True)
    again = evoloom(*given, "--run-id", "bench-2", cwd=folder)
    assert all("bench-1" in one["recorded_from"] for one in again["scorings"])


def evaluation(folder: Path) -> list[str]:
    """A small evaluation of the training, judged by its base."""
    users = folder / "users.jsonl"
    asked = [{"instruction": f"Say which number the {animal} is.", "input": "", "output": "It is 3."}
             for animal in ("cat", "owl")]  # fmt: skip
    users.write_text("".join(f"{json.dumps(row)}\n" for row in asked))
    return [
        "evaluate", TRAINING, "--limit", "4",
        "--set", f"evaluation.user_oriented_file={users}",
        "--set", "evaluation.held_out_max_tokens=16",
        "--set", "evaluation.user_oriented_max_tokens=16",
    ]  # fmt: skip


def write_benchmark(folder: Path) -> Path:
    """A task of lm-evaluation-harness that needs no hub: which number has which animal."""
    tasks = folder / "benchmark"
    tasks.mkdir()
    data = tasks / "data.jsonl"
    rows = [
        {"question": row.instruction, "answer": number % 2,
         "choices": [row.output, "I do not know."][:: 1 if number % 2 == 0 else -1]}
        for number, row in enumerate(nursery(4, start=70))
    ]  # fmt: skip
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tasks / "nursery.yaml").write_text(TASK_FILE.format(data=data))
    return tasks


@pytest.mark.verify_student
@pytest.mark.parametrize("method", ["dora", "full", "prompt_tuning"])
def test_other_methods_are_evaluated_their_own_way(
    served: Served, method: str, tmp_path: Path
) -> None:
    """Merged where that is possible, else through Transformers; the report says which."""
    ways = {"dora": "merged", "full": "merged", "prompt_tuning": "transformers"}
    folder = served.store.parent
    evoloom(
        "train", "animals", "--method", method, "--run-id", f"{method}-1", "--seed", "1",
        "--set", "training.max_steps=24", "--set", "training.batch_size=2",
        "--set", "training.max_length=64", "--set", "training.held_out=0.1", cwd=folder,
    )  # fmt: skip
    shown = evoloom(
        "evaluate", f"{method}-1", "--run-id", f"{method}-eval", "--limit", "4", "--no-judge",
        "--set", "evaluation.user_oriented=false", "--set", "evaluation.held_out_max_tokens=24",
        cwd=folder,
    )  # fmt: skip
    assert shown["serving"] == ways[method]
    loss = next(one for one in shown["comparisons"] if one["metric"] == "nll")
    assert loss["interval"]["difference"] < 0
    kept = json.loads((runs_directory(served.store) / f"{method}-eval" / SERVING).read_text())
    assert (kept["proof"] is None) == (ways[method] == "transformers")
    entries = list(read_entries(runs_directory(served.store) / f"{method}-eval" / ANSWERS))
    assert len(entries) == 2 * 4 * 2
