"""The manifest of an Evol-Instruct run. Its source lies beside it, in the run directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.asking import (
    apis_of,
    load_stage_templates,
    pinned_stages,
    read_stages,
    structured_output,
)
from pipeline.config import Settings
from pipeline.evol_instruct.asking import check_prompts
from pipeline.evol_instruct.plan import PROMPTS, STAGES, EvolPlan
from pipeline.evol_instruct.source import decode_source
from pipeline.manifests import check_derivation, common_parts
from pipeline.prompting import PromptBook
from pipeline.records import EarlierRun
from pipeline.teacher.served import ServedModel

KIND = "evol-instruct"
DERIVATION_VERSION = 1
"""Raised whenever the same manifest and completions would give other rows."""


def build_manifest(
    run_id: str, settings: Settings, model: ServedModel, source: bytes
) -> dict[str, Any]:
    """Resolve everything that a run stands on.

    Args:
        settings: validated settings; `run.seed` unset draws a fresh one.
        model: the teacher's model, as the pre-flight resolved it.
        source: the source as `encode_source` wrote it.

    Raises:
        UsageError: templates cannot be read or hold a mistake.
    """
    teacher = settings.teacher
    templates = load_stage_templates(PROMPTS, teacher, STAGES, settings.prompts.directory)
    for api in apis_of(teacher, STAGES):
        check_prompts(PromptBook(templates, api))
    return {
        **common_parts(run_id, KIND, settings, model.name, DERIVATION_VERSION),
        "structured_output": structured_output(teacher, model),
        "stage_models": pinned_stages(teacher, STAGES, model),
        "source": {
            "name": settings.evol_instruct.source,
            "instructions": source.count(b"\n"),
            "sha256": hashlib.sha256(source).hexdigest(),
        },
        "templates": templates,
    }


def plan_of(
    manifest: Mapping[str, Any], source: bytes, earlier_runs: Sequence[EarlierRun]
) -> EvolPlan:
    """The plan that a run directory pins.

    Raises:
        UsageError: another derivation version made the manifest, or it no longer validates.
    """
    check_derivation(manifest, DERIVATION_VERSION)
    settings = Settings(**manifest["config"])
    return EvolPlan(
        run_seed=manifest["run_seed"],
        model=manifest["model"],
        api=settings.teacher.api,
        drop_parameters=frozenset(settings.teacher.drop_parameters),
        structured=manifest["structured_output"],
        stages=read_stages(manifest),
        re_asks=settings.teacher.re_asks,
        settings=settings.evol_instruct,
        novelty=settings.novelty,
        source=decode_source(source),
        templates=manifest["templates"],
        earlier_runs=earlier_runs,
    )
