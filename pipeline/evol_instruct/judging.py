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
_GOES_ON = re.compile(r"[ \t]+(?!(?:because|since|as)\b)[a-z]")
"""After 'equal': it is a word of a sentence, such as 'equal constraints'."""
_INTRODUCED = re.compile(
    r"(?:\b(?:judge?ment|verdict|answer)\W+(?:is\W+)?|[\"'`*\u2018\u201c])\Z", re.IGNORECASE
)
_IN_PART = re.compile(
    r"\b(?:constraints?|requirements?|depths?|breadths?)\b[^.,;:!?\n]*\Z", re.IGNORECASE
)
"""Before 'equal': of what the prompts are compared in, one is equal."""


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
    contradict itself, and 'equal' must be its verdict: named so, quoted, or its last word. 'They
    have equal constraints' leaves open whether they are equal.
    """
    value = _json_value(text, "judgement")
    if isinstance(value, str):
        text = value
    found = [
        (match.start(), match.end(), match["different"] is None)
        for match in _VERDICT.finditer(text)
    ]
    if not found:
        return None
    lead = _QUOTED.match(text)
    assert lead is not None  # the pattern matches the empty text
    start, end, is_equal = found[0]
    is_lead = start == lead.end() and not _ECHO.match(text, start)
    if is_lead and not (is_equal and _GOES_ON.match(text, end)):
        return is_equal
    if len({is_equal for _, _, is_equal in found}) > 1:
        return None
    if not is_equal:
        return False
    return True if any(_is_verdict(text, start, end) for start, end, _ in found) else None


def _is_verdict(text: str, start: int, end: int) -> bool:
    """Whether an 'equal' at this place says what was judged, not what the prompts have in common."""
    if _INTRODUCED.search(text, 0, start):
        return not _GOES_ON.match(text, end)
    is_last = not any(character.isalnum() for character in text[end:])
    return is_last and not _IN_PART.search(text, 0, start)


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
