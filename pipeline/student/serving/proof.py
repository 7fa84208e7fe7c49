"""Proof that a served student is the one that was trained.

Served LoRAs that silently do nothing are a known trouble. So before anything is evaluated the
log-probabilities of fixed continuations are compared three ways: served against PEFT in the same
number format (they must agree), and served against the base (they must differ, by far more than
served and PEFT do). An adapter too weak to tell from rounding is checked by a copy scaled by 8.

In bfloat16 two correct computations differ by their rounding. How much is measured on the base, which
has no adapter: served against Transformers. Up to twice that is allowed, within limits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from pipeline.errors import EvoloomError
from pipeline.records import Address
from pipeline.student.records import Example
from pipeline.student.serving.requests import ScoreRequest, StudentPrompts

MOST_DISAGREEMENT = 0.05
"""Nats a token, on average, by which served and PEFT may differ."""
MOST_ROUNDED = 0.1
"""The same where the base differs by its rounding alone."""
_ROUNDING_RATIO = 2.0
LEAST_RATIO = 10.0
"""How much more the served student must differ from the base than from PEFT."""
SCALE = 8.0
LEAST_TOKENS = 200
Logprobs = Sequence[Sequence[float]]
"""Of each continuation, the log-probability of each of its tokens."""


class UnprovenStudentError(EvoloomError):
    """Raised when a served student does not do what it was trained to."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was measured; nats a token, the mean of absolute differences."""

    tokens: int
    disagreement: float
    """Served against PEFT (or Transformers)."""
    effect: float
    """Served against the base."""
    scaled_disagreement: float | None = None
    """The same of the copy scaled by 8, where the adapter itself was too weak."""
    scaled_effect: float | None = None
    rounding: float | None = None
    """The served base against Transformers', where it was measured."""

    @property
    def allowed(self) -> float:
        """By how much served and PEFT may differ."""
        rounded = _ROUNDING_RATIO * (self.rounding or 0.0)
        return max(MOST_DISAGREEMENT, min(rounded, MOST_ROUNDED))

    @property
    def is_agreed(self) -> bool:
        """Whether the served student is the one that PEFT computes."""
        return self.disagreement <= self.allowed and (
            self.scaled_disagreement is None or self.scaled_disagreement <= self.allowed
        )

    @property
    def is_applied(self) -> bool:
        """Whether it differs from the base by far more than by rounding."""
        if self.scaled_effect is not None and self.scaled_disagreement is not None:
            return is_clear(self.scaled_effect, self.scaled_disagreement)
        return is_clear(self.effect, self.disagreement)


def is_clear(effect: float, disagreement: float) -> bool:
    """Whether an effect is at least ten times the disagreement, and there at all."""
    return effect > 0.0 and effect >= LEAST_RATIO * disagreement


def continuations() -> list[Example]:
    """The fixed prompts and continuations, bundled."""
    text = resources.files("pipeline.student.serving").joinpath("continuations.jsonl").read_text()
    return [
        Example(f"continuation {number}", str(number), **json.loads(line))
        for number, line in enumerate(text.splitlines())
    ]


def score_requests(prompts: StudentPrompts, model: str) -> list[ScoreRequest]:
    """The requests that score the continuations."""
    return [
        prompts.score(Address("proof", (number,)), model, example)
        for number, example in enumerate(continuations())
    ]


def mean_difference(one: Logprobs, other: Logprobs) -> tuple[int, float]:
    """Number of tokens, and the mean absolute difference of their log-probabilities."""
    differences = [
        abs(a - b)
        for mine, theirs in zip(one, other, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    ]
    return len(differences), sum(differences) / len(differences)


def prove_adapter(
    *,
    base: Logprobs,
    served: Logprobs,
    reference: Logprobs,
    served_scaled: Callable[[], Logprobs],
    reference_scaled: Callable[[], Logprobs],
    reference_base: Logprobs | None = None,
) -> Proof:
    """Check a served LoRA adapter.

    Args:
        base: of the served base.
        served: of the served adapter.
        reference: of PEFT, in the same number format.
        served_scaled: loads the copy scaled by 8 into the engine and scores with it.
        reference_scaled: the same with PEFT.
        reference_base: of Transformers' base, where the number format rounds coarsely.

    Raises:
        UnprovenStudentError: served and PEFT differ, or the adapter changes nothing.
    """
    proof = _compare(base, served, reference, reference_base)
    if not proof.is_agreed:
        raise UnprovenStudentError(_disagreement(proof, "the served adapter"))
    if proof.is_applied:
        return proof
    served_values = served_scaled()
    scaled = _compare(base, served_values, reference_scaled(), reference_base)
    if not scaled.is_agreed:
        raise UnprovenStudentError(
            _disagreement(scaled, f"a copy of the served adapter scaled by {SCALE:g}")
        )
    proof = replace(proof, scaled_disagreement=scaled.disagreement, scaled_effect=scaled.effect)
    if not proof.is_applied:
        raise UnprovenStudentError(
            "the served adapter changes nothing that can be told from rounding: the log-probabilities "
            f"of {proof.tokens} fixed tokens differ from the base's by {proof.effect:.2g} nats a "
            f"token, those of a copy scaled by {SCALE:g} by {scaled.effect:.2g}, and from PEFT's by "
            f"{scaled.disagreement:.2g}. Either it was not trained, or the engine does not apply it; "
            "nothing was evaluated"
        )
    return proof


def prove_merged(
    *,
    base: Logprobs,
    served: Logprobs,
    reference: Logprobs,
    reference_base: Logprobs | None = None,
) -> Proof:
    """Check a served merged checkpoint: it must be the model that Transformers computes. For the
    arguments see `prove_adapter`.

    Raises:
        UnprovenStudentError: it is not.
    """
    proof = _compare(base, served, reference, reference_base)
    if not proof.is_agreed:
        raise UnprovenStudentError(_disagreement(proof, "the served checkpoint"))
    if proof.effect == 0.0:
        raise UnprovenStudentError(
            "the served checkpoint gives exactly the base's log-probabilities; nothing was evaluated"
        )
    return proof


def _compare(
    base: Logprobs, served: Logprobs, reference: Logprobs, reference_base: Logprobs | None
) -> Proof:
    tokens, disagreement = mean_difference(served, reference)
    _, effect = mean_difference(served, base)
    if tokens < LEAST_TOKENS:
        raise EvoloomError(
            f"the fixed continuations have {tokens} tokens with this model; {LEAST_TOKENS} are needed"
        )
    rounding = None if reference_base is None else mean_difference(base, reference_base)[1]
    return Proof(tokens, disagreement, effect, rounding=rounding)


def _disagreement(proof: Proof, what: str) -> str:
    return (
        f"{what} is not the student that was trained: its log-probabilities differ from those of PEFT "
        f"by {proof.disagreement:.3g} nats a token on average, {proof.allowed:.3g} is allowed; nothing "
        "was evaluated. Check that the engine's version takes this adapter, and engine.dtype"
    )


def scale_adapter(source: Path, target: Path, factor: float) -> None:
    """Write a copy of a PEFT LoRA adapter whose change to the model is `factor` times as large.

    Raises:
        EvoloomError: it holds no LoRA weights.
    """
    import shutil

    from safetensors.torch import load_file, save_file

    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and path.suffix in (".json", ".txt"):
            shutil.copyfile(path, target / path.name)
    weights = load_file(source / "adapter_model.safetensors")
    names = [name for name in weights if ".lora_B." in name or ".lora_embedding_B" in name]
    if not names:
        raise EvoloomError(f"{source}: holds no LoRA weights to scale")
    for name in names:
        weights[name] = weights[name] * factor
    save_file(weights, target / "adapter_model.safetensors", metadata={"format": "pt"})
