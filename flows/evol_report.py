"""What is printed of an evolution: its funnel, its rounds and operators, its difficulties."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from store.queries import RunDetail
from store.run_rows import EvolutionCount

FunnelLine = tuple[str, int, int]
"""Text, count, depth of indentation."""

_STAGES = (
    ("respond_source", "responses to source instructions asked"),
    ("rate_source", "ratings of source instructions asked"),
    ("evolve", "evolutions asked"),
    ("judge", "judgements asked"),
    ("respond", "responses asked"),
    ("rate", "ratings asked"),
)


def funnel_lines(detail: RunDetail) -> Iterator[FunnelLine]:
    """The funnel of an evolution, from the source to the result pool."""
    funnel = detail.funnel
    yield "source instructions", _instructions(detail, "source"), 0
    for outcome in ("without_instances", "left_out"):
        if count := funnel.count("instructions", outcome, stage="source"):
            yield outcome.replace("_", " "), count, 1
    for stage, name in _STAGES:
        used = funnel.count("completions", "used", stage=stage)
        discarded = funnel.reasons("completions", "discarded", stage=stage)
        surplus = funnel.count("completions", "surplus", stage=stage)
        asked = used + surplus + sum(discarded.values())
        if not asked and stage not in ("evolve", "judge", "respond"):
            continue
        yield name, asked, 0
        for reason, count in discarded.items():
            yield f"discarded: {reason}", count, 1
        if surplus:
            yield "not needed", surplus, 1
    yield "evolutions settled", _instructions(detail, "evolve"), 0
    for reason, count in funnel.reasons("instructions", "rejected", stage="evolve").items():
        yield f"eliminated: {reason}", count, 1
    if left_out := funnel.count("instructions", "left_out", stage="evolve"):
        yield "left out", left_out, 1
    yield "accepted", funnel.count("instructions", "accepted", stage="evolve"), 1
    yield "result pool", funnel.count("instructions", "accepted"), 0


def _instructions(detail: RunDetail, stage: str) -> int:
    return detail.funnel.count("instructions", "parsed", stage=stage)


def round_lines(counts: Sequence[EvolutionCount]) -> Iterator[str]:
    """One line for each round: what it made, how the result pool grew, how difficult it is."""
    rounds = sorted({count.round for count in counts if count.round is not None})
    source = [count for count in counts if count.round is None]
    pool = sum(count.accepted for count in source)
    rated = any(count.difficulties for count in counts)
    head = f"{'round':<10}{'evolved':>9}{'accepted':>10}{'result pool':>13}"
    yield head + (f"  {'difficulty (mean; count of 1 to 10)'}" if rated else "")
    yield f"{'source':<10}{'-':>9}{pool:>10}{pool:>13}" + _difficulty(source, rated)
    for round_ in rounds:
        chosen = [count for count in counts if count.round == round_]
        accepted = sum(count.accepted for count in chosen)
        pool += accepted
        evolved = sum(count.evolutions for count in chosen)
        yield (f"{round_ + 1:<10}{evolved:>9}{accepted:>10}{pool:>13}"
               + _difficulty(chosen, rated))  # fmt: skip


def operator_lines(counts: Sequence[EvolutionCount]) -> Iterator[str]:
    """One line for each operator."""
    yield f"{'operator':<18}{'evolved':>9}{'accepted':>10}"
    for operator in sorted({count.operator for count in counts if count.operator}):
        chosen = [count for count in counts if count.operator == operator]
        evolved = sum(count.evolutions for count in chosen)
        yield f"{operator:<18}{evolved:>9}{sum(count.accepted for count in chosen):>10}"


def _difficulty(counts: Iterable[EvolutionCount], rated: bool) -> str:
    if not rated:
        return ""
    ratings = [rating for count in counts for rating in count.difficulties]
    if not ratings:
        return "  -"
    histogram = " ".join(str(ratings.count(score)) for score in range(1, 11))
    return f"  {sum(ratings) / len(ratings):.2f}; {histogram}"
