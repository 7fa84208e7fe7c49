"""Candidates for tests of steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipeline.curation import Candidate
from pipeline.curation.context import Context
from pipeline.curation.records import Outcome
from pipeline.curation.steps import STEPS


def candidates(*rows: Sequence[str], **more: Any) -> list[Candidate]:
    """Candidates of (instruction, input, output); equal instructions are one group."""
    groups: dict[str, int] = {}
    return [
        Candidate(number, groups.setdefault(row[0], len(groups)), row[0], row[1], row[2], **more)
        for number, row in enumerate(rows)
    ]


def apply(name: str, given: Sequence[Candidate], seed: int = 0, **parameters: Any) -> Outcome:
    """What a step makes of candidates; its parameters are read as a recipe's are."""
    step = STEPS[name].model_validate_json(json.dumps(parameters), strict=True)
    return step.apply(given, Context(seed))


def kept(outcome: Outcome) -> list[int]:
    """Numbers of those that stayed."""
    return [item.number for item in outcome.kept]


def reasons(outcome: Outcome) -> dict[int, str]:
    """Why each of the others went."""
    return {reject.candidate.number: reject.reason for reject in outcome.rejected}
