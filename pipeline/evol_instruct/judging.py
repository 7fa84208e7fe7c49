"""Judgements and ratings: how the engine is held to their form, and how they are read.

An engine that constrains its answers gives nothing else; the parsers read what others say, too,
and answer None where it cannot be told: then the teacher is asked again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.asking import Structured

EQUAL, NOT_EQUAL = "Equal", "Not Equal"
_CHOICES: Mapping[str, Sequence[str]] = {
    "judgement": (EQUAL, NOT_EQUAL),
    "score": tuple(str(score) for score in range(1, 11)),
}
_VERDICT = re.compile(
    r"(?P<different>\b(?:not|n't|never|hardly)\b(?:\s+\w+){0,2}?[\s_-]*equal\b|n't\s+(?:\w+\s+)?equal\b"
    r"|\bunequal\b|\bnotequal\b)|\bequal\b",
    re.IGNORECASE,
)
_SCORE = re.compile(
    r"(?<![\d.,-])(10|[1-9])(?:\.0)?(?:\s*/\s*10|\s+out\s+of\s+10)?(?![\d%]|[.,]\d)"
)
_ECHO = re.compile(r"equal\W+or\W+not\W+equal\b", re.IGNORECASE)
"""The choices, said again."""
_QUOTED = re.compile(r"[\s\"'`*_#>(\[]*")


def judgement_fields(structured: Structured) -> dict[str, Any]:
    """Fields of the request that hold the engine to a judgement."""
    schema = {"type": "string", "enum": list(_CHOICES["judgement"])}
    return _fields(structured, "judgement", schema)


def rating_fields(structured: Structured) -> dict[str, Any]:
    """Fields of the request that hold the engine to a rating."""
    return _fields(structured, "score", {"type": "integer", "minimum": 1, "maximum": 10})


def _fields(structured: Structured, name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if structured == "off":
        return {}
    if structured == "choice":
        return {"structured_outputs": {"choice": list(_CHOICES[name])}}
    whole = {
        "type": "object",
        "properties": {name: dict(schema)},
        "required": [name],
        "additionalProperties": False,
    }
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": name, "strict": True, "schema": whole},
        }
    }


def parse_judgement(text: str) -> bool | None:
    """Whether the two instructions were judged equal; None where the answer does not say.

    What the answer opens with counts before what it goes on to say; further down it must not
    contradict itself.
    """
    value = _json_value(text, "judgement")
    if isinstance(value, str):
        text = value
    found = [(match.start(), match["different"] is None) for match in _VERDICT.finditer(text)]
    if not found:
        return None
    lead = _QUOTED.match(text)
    assert lead is not None  # the pattern matches the empty text
    if found[0][0] == lead.end() and not _ECHO.match(text, lead.end()):
        return found[0][1]
    verdicts = {is_equal for _, is_equal in found}
    return verdicts.pop() if len(verdicts) == 1 else None


def parse_rating(text: str) -> int | None:
    """A rating from 1 to 10; None where the answer holds none, or several that differ."""
    value = _json_value(text, "score")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if value in range(1, 11) else None
    scores = {int(match[1]) for match in _SCORE.finditer(text)}
    return scores.pop() if len(scores) == 1 else None


def _json_value(text: str, name: str) -> Any:
    """The value of a key of the first JSON object in a text, if there is one."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return None
    return value.get(name) if isinstance(value, dict) else None
