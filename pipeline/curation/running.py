"""Running a recipe: each step on what the one before it left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.curation.context import Context
from pipeline.curation.recipe import Recipe
from pipeline.curation.records import Candidate, Curated, Outcome, Reject, StepReport
from pipeline.errors import EvoloomError

OnStep = Callable[[int, int, str, int, int], None]
"""Told what goes on: number of the step, of how many, its name, candidates done, of how many."""


def run_recipe(
    recipe: Recipe,
    candidates: Sequence[Candidate],
    context: Context,
    on_step: OnStep = lambda number, steps, name, done, of: None,
) -> Curated:
    """Apply the steps of a recipe in order.

    Raises:
        UsageError: what a step needs is not there; no step has begun then.
        EvoloomError: a step failed.
    """
    context = replace(context, seed=recipe.seed)
    for step in recipe.steps:
        step.check(context)
    kept: Sequence[Candidate] = candidates
    rejected: list[tuple[int, Reject]] = []
    reports = []
    for number, step in enumerate(recipe.steps, 1):

        def tell(done: int, of: int, number: int = number, name: str = step.step) -> None:
            on_step(number, len(recipe.steps), name, done, of)

        tell(0, len(kept))
        outcome = step.apply(kept, replace(context, on_progress=tell))
        tell(len(kept), len(kept))
        _check(kept, outcome, step.step)
        reports.append(
            StepReport(
                number, step.step, step.model_dump(mode="json"),
                _groups(kept), len(kept), _groups(outcome.kept), len(outcome.kept),
                _reasons(outcome.rejected), outcome.details,
            )
        )  # fmt: skip
        rejected += [(number, reject) for reject in outcome.rejected]
        kept = outcome.kept
    return Curated(kept, rejected, reports)


def _check(given: Sequence[Candidate], outcome: Outcome, name: str) -> None:
    """No candidate may vanish: rows without a reason are what this is here to prevent."""
    kept = [item.number for item in outcome.kept]
    out = [item.candidate.number for item in outcome.rejected]
    if sorted(kept + out) != sorted(item.number for item in given):
        raise EvoloomError(f"step {name} lost or doubled candidates; please report it")


def _groups(candidates: Sequence[Candidate]) -> int:
    return len({candidate.group for candidate in candidates})


def _reasons(rejected: Sequence[Reject]) -> dict[str, int]:
    counts = Counter(reject.reason for reject in rejected)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
