"""The manifest of a run of judging. The texts lie beside it, in the run directory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.asking import pinned_stages
from pipeline.config import Settings
from pipeline.curation.judge_machine import JudgingPlan
from pipeline.curation.judging import (
    PROMPT,
    STAGE,
    JudgePlan,
    Structured,
    check_prompt,
    decode_texts,
)
from pipeline.decoding import StageDecoding
from pipeline.manifests import check_derivation, common_parts
from pipeline.prompting import PromptBook, load_templates
from pipeline.sections import TeacherSettings
from pipeline.teacher.served import ServedModel

KIND = "judgement"
DERIVATION_VERSION = 1
"""Raised whenever the same manifest and completions would give other judgements."""


def load_judge_templates(settings: Settings, judge: JudgePlan) -> dict[str, str]:
    """The prompt's template, checked.

    Raises:
        UsageError: it cannot be read, or holds a mistake.
    """
    api = settings.teacher.for_stage(STAGE).api
    templates = load_templates([PROMPT], api, settings.prompts.directory)
    check_prompt(PromptBook(templates, api), judge)
    return templates


def judgement_id(settings: Settings, judge: JudgePlan, seed: int, model: str, texts: bytes) -> str:
    """The run id: the same texts, asked about in the same way, are asked about once."""
    teacher = settings.teacher.for_stage(STAGE)
    asked = {
        "derivation": DERIVATION_VERSION,
        "templates": load_judge_templates(settings, judge),
        "model": model,
        "api": teacher.api,
        "structured_output": teacher.structured_output,
        "re_asks": teacher.re_asks,
        "drop_parameters": sorted(teacher.drop_parameters),
        "seed": seed,
        "judge": _judge_part(judge),
        "texts": hashlib.sha256(texts).hexdigest(),
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    return f"{KIND}-{digest[:16]}"


def build_judge_manifest(
    run_id: str, settings: Settings, judge: JudgePlan, seed: int, model: ServedModel, texts: bytes
) -> dict[str, Any]:
    """Resolve everything that a run of judging stands on.

    Raises:
        UsageError: the template cannot be read or holds a mistake.
    """
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"seed": seed})})
    own = model.stages.get(STAGE, model)
    return {
        **common_parts(run_id, KIND, settings, own.name, DERIVATION_VERSION),
        "structured_output": _structured(settings.teacher.for_stage(STAGE), own),
        "stage_models": pinned_stages(settings.teacher, [STAGE], model),
        "judge": _judge_part(judge),
        "texts": texts.count(b"\n"),
        "templates": load_judge_templates(settings, judge),
        # Nothing is compared for novelty.
        "novelty_against": [],
    }


def judging_plan_of(manifest: Mapping[str, Any], texts: bytes) -> JudgingPlan:
    """The plan that a run directory pins.

    Raises:
        UsageError: another derivation version made the manifest, or the texts were altered.
    """
    check_derivation(manifest, DERIVATION_VERSION)
    teacher = Settings(**manifest["config"]).teacher.for_stage(STAGE)
    judge = manifest["judge"]
    return JudgingPlan(
        JudgePlan(tuple(judge["dimensions"]), StageDecoding(**judge["decoding"])),
        decode_texts(texts),
        manifest["run_seed"],
        manifest["model"],
        teacher.api,
        manifest["structured_output"],
        frozenset(teacher.drop_parameters),
        teacher.re_asks,
        manifest["templates"],
    )


def _judge_part(judge: JudgePlan) -> dict[str, Any]:
    return {
        "dimensions": list(judge.dimensions),
        "decoding": judge.decoding.model_dump(mode="json"),
    }


def _structured(teacher: TeacherSettings, model: ServedModel) -> Structured:
    """A judgement is an object: where `choice` holds others to their form, a schema holds it."""
    wanted = teacher.structured_output
    if wanted == "auto":
        return "json_schema" if model.owner == "vllm" else "off"
    return "off" if wanted == "off" else "json_schema"
