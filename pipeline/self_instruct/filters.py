"""Self-Instruct's heuristic filters (arXiv 2212.10560, sections 2.2 and 2.3; released code).

Pure functions. Nothing is dropped silently: a rejected instruction comes with the reason and what
it was found by, and every parsed instance gets a verdict.
"""

import random
import re
import string
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pipeline.self_instruct.filter_settings import InstanceFilters, InstructionFilters
from pipeline.self_instruct.parsing import ParsedInstance

InstructionReason = Literal[
    "empty",
    "too_short",
    "too_long",
    "keyword",
    "forbidden_prefix",
    "leading_punctuation",
    "non_ascii_start",
]
"""Why an instruction is rejected, in the order in which the filters are asked."""

InstanceReason = Literal[
    "empty_output",
    "input_equals_output",
    "ends_with_colon",
    "conflicting_outputs",
    "duplicate",
    "over_limit",
]
"""Why an instance is rejected, in the order in which the filters are asked."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an instruction is rejected, and by what.

    `evidence` is the keyword, the prefix or the first character that was found, or the number of
    words; it is empty for an empty instruction.
    """

    reason: InstructionReason
    evidence: str


@dataclass(frozen=True, slots=True)
class InstanceVerdict:
    """What became of one parsed instance; `reason` is None exactly if it is kept."""

    instance: ParsedInstance
    kept: bool
    reason: InstanceReason | None


def reject_reason(instruction: str, settings: InstructionFilters) -> Rejection | None:
    """The first published filter that rejects the instruction, or None if it passes them all.

    The released code compares the forbidden prefix after lower-casing all but the first letter;
    ignoring case decides the same, also where the letter case of the text is kept.
    """
    text = instruction.strip()
    if not text:
        return Rejection("empty", "")
    words = len(text.split())
    if words < settings.min_words:
        return Rejection("too_short", str(words))
    if words > settings.max_words:
        return Rejection("too_long", str(words))
    for keyword in settings.keywords:
        if _whole_phrase(keyword).search(text):
            return Rejection("keyword", keyword)
    lowered = text.lower()
    for prefix in settings.forbidden_prefixes:
        if lowered.startswith(prefix.lower()):
            return Rejection("forbidden_prefix", prefix)
    if settings.reject_leading_punctuation and text[0] in string.punctuation:
        return Rejection("leading_punctuation", text[0])
    if settings.reject_non_ascii_start and not text[0].isascii():
        return Rejection("non_ascii_start", text[0])
    return None


@lru_cache(maxsize=1024)
def _whole_phrase(phrase: str) -> re.Pattern[str]:
    # Lookarounds rather than \b, so that 'c++' can be a keyword; for plain words they are equal.
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def filter_instances(
    instances: Sequence[ParsedInstance],
    *,
    settings: InstanceFilters,
    rng: random.Random,
    contexts: Sequence[Hashable] | None = None,
) -> list[InstanceVerdict]:
    """Judge the parsed instances of one instruction; one verdict for each, in the given order.

    Published order: instances invalid in themselves, then conflicts (which reject all that are
    left) or duplicates (the first is kept), then a random sample of `settings.max_instances`.
    `rng` is drawn from only if there are more than that; what is kept stays in parsed order.

    `contexts`, one an instance, is what it stands in (the rest of its conversation): those of
    different contexts neither conflict nor repeat one another.
    """
    reasons = [_invalid(instance, settings) for instance in instances]
    members: dict[Hashable, list[int]] = {}
    for position in range(len(instances)):
        members.setdefault(contexts[position] if contexts else None, []).append(position)
    for positions in members.values():
        _compare(instances, positions, reasons, settings)
    left = [position for position, reason in enumerate(reasons) if reason is None]
    if len(left) > settings.max_instances:
        sampled = set(rng.sample(left, settings.max_instances))
        for position in left:
            if position not in sampled:
                reasons[position] = "over_limit"
    return [
        InstanceVerdict(instance, kept=reason is None, reason=reason)
        for instance, reason in zip(instances, reasons, strict=True)
    ]


def _invalid(instance: ParsedInstance, settings: InstanceFilters) -> InstanceReason | None:
    # The released code asks for equality first; asking for emptiness first drops the same
    # instances and gives the better reason where both texts are empty.
    if settings.drop_empty_outputs and not instance.output.strip():
        return "empty_output"
    if settings.drop_copied_inputs and instance.input == instance.output:
        return "input_equals_output"
    if settings.drop_trailing_colons and (
        instance.input.rstrip().endswith(":") or instance.output.rstrip().endswith(":")
    ):
        return "ends_with_colon"
    return None


def _compare(
    instances: Sequence[ParsedInstance],
    positions: Sequence[int],
    reasons: list[InstanceReason | None],
    settings: InstanceFilters,
) -> None:
    """Enter the reasons of those that conflict with, or repeat, another at these positions."""
    passing = [position for position in positions if reasons[position] is None]
    if settings.drop_conflicting_inputs and _conflict([instances[at] for at in passing]):
        for position in passing:
            reasons[position] = "conflicting_outputs"
    if settings.drop_duplicates:
        seen: set[ParsedInstance] = set()
        for position in positions:
            if reasons[position] is None and instances[position] in seen:
                reasons[position] = "duplicate"
            seen.add(instances[position])


def _conflict(instances: Sequence[ParsedInstance]) -> bool:
    """Whether one non-empty input has two outputs."""
    outputs: dict[str, str] = {}
    return any(
        instance.input and outputs.setdefault(instance.input, instance.output) != instance.output
        for instance in instances
    )
