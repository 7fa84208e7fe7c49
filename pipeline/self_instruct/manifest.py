"""The manifest of a Self-Instruct run: written once, the only thing that a resume reads."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pipeline.config import Settings, dump
from pipeline.errors import UsageError
from pipeline.prompting import PromptBook, load_templates
from pipeline.records import SeedTask
from pipeline.seeds import load_seeds, load_shots
from pipeline.self_instruct.asking import check_prompts
from pipeline.self_instruct.plan import (
    PROMPTS,
    EarlierRun,
    SelfInstructPlan,
    default_window,
)

KIND = "self-instruct"
FORMAT = 1
DERIVATION_VERSION = 1
"""Raised whenever the same manifest and completions would give other rows."""


def build_manifest(run_id: str, settings: Settings, model: str) -> dict[str, Any]:
    """Resolve everything that a run stands on.

    Args:
        settings: validated settings; `run.seed` unset draws a fresh one.
        model: the teacher's model, as the pre-flight resolved it.

    Raises:
        UsageError: seeds, shots or templates cannot be read or hold a mistake.
    """
    seeds = load_seeds(settings.seeds.file)
    check_seeds(seeds, settings)
    templates = load_templates(PROMPTS, settings.teacher.api, settings.prompts.directory)
    shots = load_shots(settings.seeds.shots_directory)
    check_prompts(PromptBook(templates, settings.teacher.api), settings.self_instruct, shots)
    target = settings.run.target
    run_seed = secrets.randbits(31) if settings.run.seed is None else settings.run.seed
    return {
        "format": FORMAT,
        "run_id": run_id,
        "kind": KIND,
        "evoloom": version("evoloom"),
        "derivation_version": DERIVATION_VERSION,
        "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "run_seed": run_seed,
        "target": target,
        "window": settings.run.window or default_window(target),
        "ceiling": settings.run.ceiling * target,
        "model": model,
        "rederived_from": None,
        "novelty_against": list(settings.novelty.against),
        "config": dump(settings),
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
    if manifest["derivation_version"] != DERIVATION_VERSION:
        raise UsageError(
            f"run {manifest['run_id']} was started under derivation version "
            f"{manifest['derivation_version']}, this evoloom has {DERIVATION_VERSION}: resuming "
            "would mix two. Resume with the evoloom that started it, or use `evoloom rederive`"
        )
    settings = Settings(**manifest["config"])
    return SelfInstructPlan(
        run_seed=manifest["run_seed"],
        target=manifest["target"],
        window=manifest["window"],
        ceiling=manifest["ceiling"],
        model=manifest["model"],
        api=settings.teacher.api,
        drop_parameters=frozenset(settings.teacher.drop_parameters),
        settings=settings.self_instruct,
        filters=settings.filters,
        instance_filters=settings.instance_filters,
        novelty=settings.novelty,
        seeds=[SeedTask.from_json(row) for row in manifest["seeds"]],
        shots=manifest["shots"],
        templates=manifest["templates"],
        earlier_runs=earlier_runs,
    )
