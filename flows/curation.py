"""Curation: from runs and dataset versions, by a recipe, to a new dataset version."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flows.dataset_cards import version_card
from flows.judging import TeacherJudge
from flows.publishing import Published, publish_store
from pipeline.config import Settings
from pipeline.curation import Candidate, Curated, Recipe, Reject, StepReport, run_recipe
from pipeline.curation.context import Context
from pipeline.curation.running import OnStep
from pipeline.errors import UsageError
from pipeline.records import InstanceRow, InstructionRow
from pipeline.threads import share_cores
from store.database import check_store
from store.dataset_rows import Collected, collect_accepted, content_hash
from store.datasets import Created, check_name, write_version
from store.run_directory import runs_directory
from store.run_names import is_known, resolve_runs
from store.text import storable

_EVIDENCE = 2000
"""Characters of a reject's evidence that are kept."""
Rows = Sequence[tuple[InstructionRow, tuple[InstanceRow, ...]]]


@dataclass(frozen=True, slots=True)
class CurationResult:
    """The version, what the steps did, and what became of the store."""

    created: Created
    collected: Collected
    steps: Sequence[StepReport]
    published: Published


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told what goes on: steps, lines of text, and the teacher's progress records."""

    step: OnStep = lambda number, steps, name, done, of: None
    message: Any = lambda text: None
    judging: Any = lambda record: None


def curate_dataset(
    settings: Settings,
    name: str,
    sources: Sequence[str],
    recipe: Recipe,
    watcher: Watcher | None = None,
) -> CurationResult:
    """Make a dataset version of what a recipe leaves of all that the sources accepted.

    Raises:
        UsageError: a source is not there or not settled, the name cannot be used, what a step needs
            is missing, or nothing is left.
        InterruptedRunError: judging stopped; the same call goes on with it.
        EvoloomError: a step failed.
    """
    share_cores()
    watcher = watcher or Watcher()
    store_path = settings.store.path
    check_store(store_path)
    check_name(store_path, name)
    judge = TeacherJudge(
        settings, recipe.seed, on_message=watcher.message, on_progress=watcher.judging
    )
    context = Context(recipe.seed, recipe.folder, settings.engine.cache_dir, judge)
    for step in recipe.steps:  # before a large source is read
        step.check(context)
    collected = collect_accepted(runs_directory(store_path), _resolve(store_path, sources))
    curated = run_recipe(recipe, candidates_of(collected.rows), context, watcher.step)
    if not curated.kept:
        raise UsageError(_nothing(curated))
    result = select_rows(collected, curated)
    record = _record(recipe, curated, judge.run_ids)
    created = write_version(
        store_path, name, result, recipe_record(recipe),
        lambda run_id: storable(
            version_card(run_id, result, recipe_record(recipe), record)
        ),
        record,
    )  # fmt: skip
    return CurationResult(created, result, curated.steps, publish_store(store_path))


def _resolve(store_path: Path, sources: Sequence[str]) -> tuple[str, ...]:
    runs_dir = runs_directory(store_path)
    for source in sources:
        if not is_known(runs_dir, source) and Path(source).is_file():
            raise UsageError(
                f"{source} is a file; curation takes runs and dataset versions. "
                f"`evoloom import {source}` makes a run of it"
            )
    return resolve_runs(runs_dir, sources)


def candidates_of(rows: Rows) -> list[Candidate]:
    """The instances of collected rows, in their order."""
    candidates: list[Candidate] = []
    for group, (instruction, instances) in enumerate(rows):
        for row in instances:
            candidates.append(
                Candidate(
                    len(candidates), group, instruction.text, row.input, row.output,
                    instruction.is_classification, row.system, row.further_turns,
                )
            )  # fmt: skip
    return candidates


def select_rows(collected: Collected, curated: Curated) -> Collected:
    """Collected rows divided into what was kept and what was not; positions stay."""
    kept = {item.number: item for item in curated.kept}
    rejected = {reject.candidate.number: (step, reject) for step, reject in curated.rejected}
    accepted_rows: list[tuple[InstructionRow, tuple[InstanceRow, ...]]] = []
    rejected_rows: list[tuple[InstructionRow, tuple[InstanceRow, ...]]] = []
    number = 0
    for instruction, instances in collected.rows:
        accepted: list[InstanceRow] = []
        out: list[InstanceRow] = []
        for row in instances:
            if number in kept:
                accepted.append(replace(row, scores=_scores(kept[number])))
            else:
                out.append(_rejected_row(row, *rejected[number]))
            number += 1
        if accepted:
            accepted_rows.append((instruction, tuple(accepted)))
        if out:
            whole = instruction if accepted else _rejected_instruction(instruction, out)
            rejected_rows.append((whole, tuple(out)))
    return replace(
        collected,
        rows=tuple(accepted_rows),
        content_hash=content_hash(accepted_rows),
        rejected=tuple(rejected_rows),
    )


def _rejected_row(row: InstanceRow, step: int, reject: Reject) -> InstanceRow:
    evidence = reject.evidence[:_EVIDENCE] if reject.evidence is not None else None
    return replace(
        row, state="rejected", reason=reject.reason, step=step, score=reject.score,
        evidence=evidence, scores=_scores(reject.candidate),
    )  # fmt: skip


def _rejected_instruction(row: InstructionRow, instances: Iterable[InstanceRow]) -> InstructionRow:
    reasons = {instance.reason for instance in instances}
    reason = reasons.pop() if len(reasons) == 1 else "several"
    return replace(row, state="rejected", reason=reason)


def _scores(candidate: Candidate) -> str | None:
    return json.dumps(dict(candidate.scores), sort_keys=True) if candidate.scores else None


def recipe_record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a version's manifest keeps it, every parameter with its value."""
    return {
        "name": recipe.name,
        "description": recipe.description,
        "seed": recipe.seed,
        "training": dict(recipe.training),
        "steps": [{"step": step.step, **step.model_dump(mode="json")} for step in recipe.steps],
    }


def _record(recipe: Recipe, curated: Curated, judgements: Sequence[str]) -> dict[str, Any]:
    return {
        "steps": [_plain(asdict(report)) for report in curated.steps],
        "rejected_instances": len(curated.rejected),
        "judgements": list(judgements),
        "training": dict(recipe.training),
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def _nothing(curated: Curated) -> str:
    last = next(report for report in curated.steps if not report.instances_out)
    reasons = ", ".join(f"{count} {reason}" for reason, count in last.reasons.items())
    return (
        f"nothing is left after step {last.number} ({last.step}), to which {last.instances_in} "
        f"instances came: {reasons or 'none had come'}. No version was made"
    )
