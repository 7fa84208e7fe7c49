"""Settings of `--dry-run`: rates and lengths that an estimate reckons with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat

from pipeline.sections import OPERATIONAL, Section

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class EstimateSettings(Section):
    """What `--dry-run` reckons with. No run depends on it."""

    bytes_per_token: Annotated[float, Field(gt=0.0, json_schema_extra=OPERATIONAL)] = 4.0
    """Length of a prompt in bytes, to one token."""
    admitted_per_generation: Annotated[float, Field(gt=0.0, json_schema_extra=OPERATIONAL)] = 3.0
    """Self-Instruct: instructions that a generation answer adds to the pool."""
    with_instances: Annotated[float, Field(gt=0.0, le=1.0, json_schema_extra=OPERATIONAL)] = 0.95
    """Self-Instruct: share of admitted instructions that keep an instance."""
    classification: Annotated[Share, Field(json_schema_extra=OPERATIONAL)] = 0.22
    """Self-Instruct: share of admitted instructions that are classification tasks (11,584 of 52,445
    in the published set)."""
    evolved: Annotated[Share, Field(json_schema_extra=OPERATIONAL)] = 0.98
    """Evol-Instruct: share of evolutions that reach the judge."""
    judged: Annotated[Share, Field(json_schema_extra=OPERATIONAL)] = 0.98
    """Evol-Instruct: share of them that the judge lets pass."""
    answered: Annotated[Share, Field(json_schema_extra=OPERATIONAL)] = 0.99
    """Evol-Instruct: share of responses that are not eliminated. The three together are 0.951, the
    published growth: 52,002 instructions become 250,000 in four rounds."""
    added_tokens: Annotated[NonNegativeFloat, Field(json_schema_extra=OPERATIONAL)] = 20.0
    """Evol-Instruct: tokens that an evolution in depth adds to an instruction (10 to 20 words)."""
    generation_tokens: Annotated[NonNegativeFloat, Field(json_schema_extra=OPERATIONAL)] = 180.0
    """Tokens of a generation answer."""
    classification_tokens: Annotated[NonNegativeFloat, Field(json_schema_extra=OPERATIONAL)] = 2.0
    """Tokens of a classification answer."""
    instances_tokens: Annotated[NonNegativeFloat, Field(json_schema_extra=OPERATIONAL)] = 120.0
    """Tokens of an answer with instances."""
    judgement_tokens: Annotated[NonNegativeFloat, Field(json_schema_extra=OPERATIONAL)] = 3.0
    """Tokens of a judgement, or of a rating."""
    response_tokens: Annotated[NonNegativeFloat, Field(json_schema_extra=OPERATIONAL)] = 350.0
    """Tokens of a response."""
