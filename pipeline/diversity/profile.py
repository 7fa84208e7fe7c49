"""All measures of one dataset's instructions, to be set beside another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.diversity import measures
from pipeline.diversity.records import VerbNoun
from pipeline.diversity.words import words_of

SAMPLE = 1000
"""Texts that measures are taken of which depend on the amount of text."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number, what it is called, and whether more of it means more variety (None: neither)."""

    key: str
    label: str
    value: float | int | None
    is_variety: bool | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """What occurs how often: count and share of the instructions."""

    name: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The diversity of a set of distinct instructions. Shares are of the instructions, 0 to 1."""

    instructions: int
    sample: int
    measures: tuple[Measure, ...]
    kinds: dict[str, float]
    question_words: dict[str, float]
    task_types: dict[str, float]
    languages: dict[str, float]
    scripts: dict[str, float]
    verbs: tuple[Counted, ...]
    pairs: tuple[Counted, ...]


def compute_profile(
    texts: Sequence[str],
    records: Sequence[VerbNoun],
    is_classification: Sequence[bool | None],
    *,
    sample: int = SAMPLE,
    dispersion: Callable[[Sequence[str]], float] | None = None,
) -> Profile:
    """Every measure of a dataset.

    Args:
        texts: its distinct instructions, in admission order.
        records: what each asks for.
        is_classification: of each; None where it is not known.
        sample: of how many texts, drawn with a fixed seed, the measures are taken that depend on the
            amount of text. Two datasets are compared by samples of one size.
        dispersion: the spread of embeddings, if it is wanted.
    """
    verbs = Counter(record.verb for record in records if record.verb)
    pairs = Counter(" ".join(record.pair) for record in records if record.pair)
    words = Counter(r.question_word for r in records if r.question_word)
    drawn = measures.draw(texts, sample)
    lengths = [len(words_of(text)) for text in texts]
    found = [
        Measure("words", "mean words an instruction", _mean(lengths)),
        Measure("distinct_1", "distinct-1 (type-token ratio)", measures.distinct_n(drawn, 1), True),
        Measure("distinct_2", "distinct-2", measures.distinct_n(drawn, 2), True),
        Measure("distinct_3", "distinct-3", measures.distinct_n(drawn, 3), True),
        Measure(
            "mattr", "moving-average type-token ratio", measures.moving_average_ttr(texts), True
        ),
        Measure("self_bleu", "self-BLEU-4", measures.self_bleu(drawn, sample=sample), False),
        Measure("verbs", "distinct verbs", len(verbs), True),
        Measure("pairs", "distinct verb-noun pairs", len(pairs), True),
        Measure(
            "verb_entropy", "entropy of the verbs, bits", measures.entropy(verbs.elements()), True
        ),
        Measure(
            "verb_evenness",
            "evenness of the verbs",
            measures.normalised_entropy(verbs.elements()),
            True,
        ),
        Measure(
            "pair_entropy", "entropy of the pairs, bits", measures.entropy(pairs.elements()), True
        ),
    ]
    if dispersion is not None:
        value = dispersion(texts)
        found.append(Measure("dispersion", "dispersion of the embeddings", value, True))
    return Profile(
        instructions=len(texts),
        sample=len(drawn),
        measures=tuple(found),
        kinds=measures.kind_shares(records),
        question_words={item.name: item.share for item in _counted(words, len(texts))},
        task_types=measures.task_type_shares(is_classification),
        languages=measures.language_shares(texts, records),
        scripts=measures.script_shares(texts),
        verbs=_counted(verbs, len(texts)),
        pairs=_counted(pairs, len(texts)),
    )


def _mean(numbers: Sequence[int]) -> float | None:
    return sum(numbers) / len(numbers) if numbers else None


def _counted(counts: Counter[str], total: int) -> tuple[Counted, ...]:
    """The most frequent first, of equally frequent ones by name."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Counted(name, count, count / total) for name, count in ordered)
