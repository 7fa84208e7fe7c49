"""What the proof of a served student lets pass, and what it does not."""

from __future__ import annotations

import pytest

from pipeline.student.serving.proof import (
    LEAST_TOKENS,
    Logprobs,
    Proof,
    UnprovenStudentError,
    continuations,
    mean_difference,
    prove_adapter,
    prove_merged,
)

BASE: Logprobs = [[-1.0] * 150, [-2.0] * 100]


def moved(by: float, start: Logprobs = BASE) -> Logprobs:
    """Half of the tokens more likely, half less: the mean stays, the differences do not."""
    return [[value + (by if place % 2 else -by) for place, value in enumerate(row)]
            for row in start]  # fmt: skip


def never() -> Logprobs:
    raise AssertionError("no scaled copy is needed")


def test_an_adapter_that_does_what_peft_does() -> None:
    proof = prove_adapter(
        base=BASE, served=moved(0.5), reference=moved(0.51), served_scaled=never,
        reference_scaled=never,
    )  # fmt: skip
    assert proof.tokens == 250
    assert (proof.disagreement, proof.effect) == (pytest.approx(0.01), pytest.approx(0.5))
    assert proof.scaled_effect is None


def prove(served: Logprobs, rounding: float | None) -> Proof:
    """A proof of an adapter that moves by 1, on a base that differs by its rounding."""
    return prove_adapter(
        base=BASE, served=served, reference=moved(1.0), served_scaled=never,
        reference_scaled=never,
        reference_base=None if rounding is None else moved(rounding),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rounding", "allowed"), [(None, 0.05), (0.01, 0.05), (0.04, 0.08), (0.5, 0.1)]
)
def test_what_the_base_differs_by_its_rounding_is_allowed_twice(
    rounding: float | None, allowed: float
) -> None:
    found = prove(moved(1.0 + allowed - 0.001), rounding)
    assert found.rounding == (None if rounding is None else pytest.approx(rounding))
    with pytest.raises(UnprovenStudentError, match=f"{allowed:g} is allowed"):
        prove(moved(1.0 + allowed + 0.001), rounding)


def test_one_that_the_engine_does_not_apply() -> None:
    """Served it equals the base, and so does its copy; PEFT says otherwise."""
    with pytest.raises(UnprovenStudentError, match="is not the student that was trained"):
        prove_adapter(
            base=BASE, served=BASE, reference=moved(0.5), served_scaled=never,
            reference_scaled=never,
        )  # fmt: skip


def test_one_that_does_nothing_anywhere() -> None:
    with pytest.raises(UnprovenStudentError, match="changes nothing that can be told"):
        prove_adapter(
            base=BASE, served=BASE, reference=BASE, served_scaled=lambda: BASE,
            reference_scaled=lambda: BASE,
        )  # fmt: skip


def test_a_weak_one_is_told_by_its_scaled_copy() -> None:
    proof = prove_adapter(
        base=BASE, served=moved(0.02), reference=moved(0.023),
        served_scaled=lambda: moved(0.16), reference_scaled=lambda: moved(0.165),
    )  # fmt: skip
    assert proof.scaled_effect == pytest.approx(0.16)
    assert proof.scaled_disagreement == pytest.approx(0.005)


def test_a_weak_one_whose_copy_the_engine_does_not_apply() -> None:
    with pytest.raises(UnprovenStudentError, match="a copy of the served adapter scaled by 8"):
        prove_adapter(
            base=BASE, served=BASE, reference=moved(0.01), served_scaled=lambda: BASE,
            reference_scaled=lambda: moved(0.08),
        )  # fmt: skip


def test_ten_times_what_served_and_peft_differ_is_needed() -> None:
    for effect, is_clear in ((0.31, True), (0.29, False)):
        found = prove_adapter(
            base=BASE, served=moved(effect), reference=moved(effect + 0.03),
            served_scaled=lambda: moved(4.0), reference_scaled=lambda: moved(4.0),
        )  # fmt: skip
        assert (found.scaled_effect is None) == is_clear


def test_a_merged_checkpoint_must_be_what_transformers_computes() -> None:
    assert prove_merged(base=BASE, served=moved(0.5), reference=moved(0.51)).effect > 0.4
    with pytest.raises(UnprovenStudentError, match="the served checkpoint is not the student"):
        prove_merged(base=BASE, served=moved(0.5), reference=moved(0.6))
    with pytest.raises(UnprovenStudentError, match="exactly the base's"):
        prove_merged(base=BASE, served=BASE, reference=BASE)


def test_differences_do_not_cancel() -> None:
    assert mean_difference(moved(0.5), BASE) == (250, pytest.approx(0.5))
    with pytest.raises(ValueError, match="zip"):
        mean_difference([[-1.0]], [[-1.0, -2.0]])


def test_the_fixed_continuations_are_long_enough_for_any_tokenizer() -> None:
    """A tokenizer has at least one token a word."""
    words = sum(len(example.output.split()) for example in continuations())
    assert words * 1.0 >= 0.8 * LEAST_TOKENS
    assert len({example.instruction for example in continuations()}) == 5
