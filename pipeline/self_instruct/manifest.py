"""The manifest of a Self-Instruct run: written once, the only thing that a resume reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.asking import apis_of, load_stage_templates, pinned_stages, read_stages
from pipeline.config import Settings
from pipeline.errors import UsageError
from pipeline.manifests import check_derivation, common_parts
from pipeline.prompting import PromptBook
from pipeline.records import EarlierRun, SeedTask
from pipeline.seeds import load_seeds, load_shots
from pipeline.self_instruct.asking import check_prompts
from pipeline.self_instruct.plan import (
    PROMPTS,
    STAGES,
    SelfInstructPlan,
    default_window,
)
from pipeline.teacher.served import ServedModel

KIND = "self-instruct"
DERIVATION_VERSION = 1
"""Raised whenever the same manifest and completions would give other rows."""


def build_manifest(run_id: str, settings: Settings, model: str | ServedModel) -> dict[str, Any]:
    """Resolve everything that a run stands on.

    Args:
        settings: validated settings; `run.seed` unset draws a fresh one.
        model: the teacher's model, as the pre-flight resolved it.

    Raises:
        UsageError: seeds, shots or templates cannot be read or hold a mistake.
    """
    seeds = load_seeds(settings.seeds.file)
    check_seeds(seeds, settings)
    teacher = settings.teacher
    templates = load_stage_templates(PROMPTS, teacher, STAGES, settings.prompts.directory)
    shots = load_shots(settings.seeds.shots_directory)
    for api in apis_of(teacher, STAGES):
        check_prompts(PromptBook(templates, api), settings.self_instruct, shots)
    served = ServedModel(model) if isinstance(model, str) else model
    target = settings.run.target
    return {
        **common_parts(run_id, KIND, settings, served.name, DERIVATION_VERSION),
        "stage_models": pinned_stages(teacher, STAGES, served),
        "target": target,
        "window": settings.run.window or default_window(target),
        "ceiling": settings.run.ceiling * target,
        "templates": templates,
        "shots": shots,
        "seeds": [seed.to_json() for seed in seeds],
    }


def check_seeds(seeds: Sequence[SeedTask], settings: Settings) -> None:
    """Refuse a seed pool that cannot fill a prompt.

    Raises:
        UsageError: there are fewer seeds (of the kind asked for) than shots.
    """
    only = settings.self_instruct.classification_seeds_only
    usable = [seed for seed in seeds if seed.is_classification or not only]
    if len(usable) < settings.self_instruct.shots:
        kind = "classification seed tasks" if only else "seed tasks"
        raise UsageError(
            f"{len(usable)} {kind} are fewer than the {settings.self_instruct.shots} shots of a "
            "prompt; add seeds (seeds.file) or lower self_instruct.shots"
        )


def plan_of(manifest: Mapping[str, Any], earlier_runs: Sequence[EarlierRun]) -> SelfInstructPlan:
    """The plan that a manifest pins.

    Raises:
        UsageError: another derivation version made the manifest, or it no longer validates.
    """
    check_derivation(manifest, DERIVATION_VERSION)
    settings = Settings(**manifest["config"])
    return SelfInstructPlan(
        run_seed=manifest["run_seed"],
        target=manifest["target"],
        window=manifest["window"],
        ceiling=manifest["ceiling"],
        model=manifest["model"],
        api=settings.teacher.api,
        drop_parameters=frozenset(settings.teacher.drop_parameters),
        stages=read_stages(manifest),
        settings=settings.self_instruct,
        filters=settings.filters,
        instance_filters=settings.instance_filters,
        novelty=settings.novelty,
        seeds=[SeedTask.from_json(row) for row in manifest["seeds"]],
        shots=manifest["shots"],
        templates=manifest["templates"],
        earlier_runs=earlier_runs,
    )
