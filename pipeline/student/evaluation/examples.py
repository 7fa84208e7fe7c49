"""The examples that a report shows: where the tuned student gained most, and where it lost most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from pipeline.student.evaluation.records import EvaluationItem, Part, Score
from pipeline.student.evaluation.scoring import ItemKey


@dataclass(frozen=True, slots=True)
class ShownExample:
    """An item with what it gained: the judge's verdict where there is one, else ROUGE-L."""

    item: EvaluationItem
    gain: float
    base: float
    tuned: float
    """ROUGE-L of both answers."""
    verdict: int | None


def choose_examples(
    items: Sequence[EvaluationItem], scores: Sequence[Score], count: int = 20
) -> list[ShownExample]:
    """Wins and losses alike: half of each, the clearest first, all parts taking turns.

    Where one side has too few the other fills up, and items without a difference fill up last.
    """
    shown = _with_gains(items, scores)
    wins = list(_in_turns([one for one in shown if one.gain > 0]))
    losses = list(_in_turns([one for one in shown if one.gain < 0]))
    half = count // 2
    won = max(half, count - len(losses))
    chosen_wins = wins[:won]
    chosen_losses = losses[: max(half, count - len(chosen_wins))]
    ties = [one for one in shown if one.gain == 0]
    rest = ties[: max(0, count - len(chosen_wins) - len(chosen_losses))]
    return [*chosen_wins[:count], *chosen_losses, *rest][:count]


def _with_gains(items: Sequence[EvaluationItem], scores: Sequence[Score]) -> list[ShownExample]:
    rouge: dict[tuple[ItemKey, str], float] = {}
    verdicts: dict[ItemKey, int] = {}
    for score in scores:
        key = (score.file, score.number)
        if score.metric == "rouge_l" and score.student is not None:
            rouge[key, score.student] = score.value
        elif score.metric == "judge":
            verdicts[key] = round(score.value)
    found = []
    for item in items:
        base, tuned = rouge[item.position, "base"], rouge[item.position, "tuned"]
        verdict = verdicts.get(item.position)
        gain = tuned - base if verdict is None else float(verdict)
        found.append(ShownExample(item, gain, base, tuned, verdict))
    return found


def _in_turns(shown: Sequence[ShownExample]) -> Iterator[ShownExample]:
    """Each part's clearest example, then each part's second ..."""
    parts: dict[Part, list[ShownExample]] = {}
    for one in sorted(
        shown, key=lambda one: (-abs(one.gain), -abs(one.tuned - one.base), one.item.position)
    ):
        parts.setdefault(one.item.part, []).append(one)
    for group in zip_longest(*(parts[part] for part in sorted(parts))):
        yield from (one for one in group if one is not None)
