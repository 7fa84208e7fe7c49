"""A student is asked with the very token ids that training made."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.records import Address, Completion, Refusal
from pipeline.student.formatting import IGNORED, get_template
from pipeline.student.records import Example
from pipeline.student.serving.identity import hash_folder
from pipeline.student.serving.local import LocalStudent
from pipeline.student.serving.proof import continuations, score_requests
from pipeline.student.serving.requests import StudentPrompts, read_logprobs, write_logprobs
from pipeline.student.serving.served import (
    RANKS,
    adapter_rank,
    fitting_rank,
    prompt_logprobs,
)
from pipeline.student.trained import load_tokenizer
from tests.support.students import bundled_model

EXAMPLE = Example("1", "1", "Name a river.", "In Europe.", "The Rhine.", system="Be brief.")
ADDRESS = Address("answer_base", (0, 1))


@pytest.fixture(scope="module", params=["chat", "alpaca"])
def prompts(request: pytest.FixtureRequest) -> StudentPrompts:
    return StudentPrompts(load_tokenizer(bundled_model()), get_template(request.param))


def test_an_answer_is_asked_for_behind_what_training_saw(prompts: StudentPrompts) -> None:
    request = prompts.answer(ADDRESS, "lora-1", EXAMPLE, 32)
    encoded = prompts.template.encode(prompts.tokenizer, EXAMPLE)
    start = next(place for place, label in enumerate(encoded.labels) if label != IGNORED)
    assert list(request.token_ids) == encoded.input_ids[:start]
    body = request.body()
    assert (body["prompt"], body["model"]) == (encoded.input_ids[:start], "lora-1")
    assert (body["temperature"], body["max_tokens"]) == (0.0, 32)
    learned = [label for label in encoded.labels if label != IGNORED][-1]
    assert learned in body["stop_token_ids"]
    assert "Rhine" not in request.prompt_text()


def test_a_score_is_of_the_response_and_its_end_alone(prompts: StudentPrompts) -> None:
    request = prompts.score(ADDRESS, "lora-1", EXAMPLE)
    encoded = prompts.template.encode(prompts.tokenizer, EXAMPLE)
    trained = [label for label in encoded.labels if label != IGNORED]
    assert list(request.token_ids[request.start :]) == trained
    assert request.body()["prompt_logprobs"] == 0
    text = prompts.tokenizer.decode(request.token_ids[request.start : -1])
    assert text.strip() == EXAMPLE.output


def test_what_is_asked_decides_the_hash(prompts: StudentPrompts) -> None:
    one = prompts.answer(ADDRESS, "lora-1", EXAMPLE, 32)
    assert prompts.answer(Address("x", (9,)), "lora-1", EXAMPLE, 32).request_hash() == (
        one.request_hash()
    )
    others = [
        prompts.answer(ADDRESS, "base", EXAMPLE, 32),
        prompts.answer(ADDRESS, "lora-1", EXAMPLE, 33),
        prompts.answer(ADDRESS, "lora-1", Example("1", "1", "Name a sea.", "", "x"), 32),
    ]
    assert one.request_hash() not in {other.request_hash() for other in others}


def test_the_continuations_have_two_hundred_tokens(prompts: StudentPrompts) -> None:
    requests = score_requests(prompts, "base")
    assert len(requests) == len(continuations())
    assert sum(len(request.token_ids) - request.start for request in requests) >= 200


def test_logprobs_are_read_as_written() -> None:
    answer = Completion(write_logprobs([-0.25, -3.1234567]), "scored", None)
    assert read_logprobs(answer) == [-0.25, -3.123457]


def test_logprobs_of_other_tokens_are_refused() -> None:
    answer = {"choices": [{"prompt_logprobs": [None, {"5": {"logprob": -1.5}}]}]}
    assert prompt_logprobs(answer, (3, 5)) == [-1.5]
    with pytest.raises(LookupError):
        prompt_logprobs(answer, (3, 6))
    with pytest.raises(ValueError, match="2 tokens scored, 3 sent"):
        prompt_logprobs(answer, (3, 5, 6))


@pytest.mark.parametrize(("rank", "limit"), [(1, 1), (4, 8), (16, 16), (17, 32), (512, 512)])
def test_the_rank_limit_fits(rank: int, limit: int) -> None:
    assert fitting_rank(rank) == limit
    assert limit in RANKS


def test_a_rank_that_no_engine_serves() -> None:
    with pytest.raises(UsageError, match="takes up to 512"):
        fitting_rank(513)


def test_the_largest_rank_of_an_adapter_counts(tmp_path: Path) -> None:
    config = {"r": 8, "rank_pattern": {"q_proj": 24, "v_proj": 2}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert adapter_rank(tmp_path) == 24
    with pytest.raises(UsageError, match="no configuration of a LoRA adapter"):
        adapter_rank(tmp_path / "absent")


def test_a_folder_is_known_by_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    first = hash_folder(tmp_path)
    (tmp_path / "README.md").write_text("said about it")
    assert hash_folder(tmp_path) == first
    (tmp_path / "b").write_text("3")
    changed = hash_folder(tmp_path)
    (tmp_path / "b").rename(tmp_path / "c")
    assert len({first, changed, hash_folder(tmp_path)}) == 3
    with pytest.raises(UsageError, match="holds no model"):
        hash_folder(tmp_path / "absent")


@pytest.mark.parametrize(("virtual", "room"), [(None, 64), (20, 44)])
def test_virtual_tokens_leave_a_student_less_room(
    prompts: StudentPrompts, virtual: int | None, room: int
) -> None:
    model: Any = SimpleNamespace(
        config=SimpleNamespace(max_position_embeddings=64),
        peft_config={"default": SimpleNamespace(num_virtual_tokens=virtual)},
    )
    request = prompts.answer(ADDRESS, "prompted", EXAMPLE, 1)
    length = len(request.token_ids) + room
    request = prompts.answer(ADDRESS, "prompted", EXAMPLE, room)
    refusal = asyncio.run(LocalStudent(model, prompts.tokenizer).complete(request))
    assert refusal == Refusal("context_length", f"{length} tokens, the model knows {room}")
