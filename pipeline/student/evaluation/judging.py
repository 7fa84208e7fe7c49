"""Which of two answers is better: asked in both orders, so that a preference for a place shows.

An answer wins where it wins in both orders. Where the orders disagree the item is a tie, and counted
as inconsistent (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", section
3.4: the conservative way to treat position bias).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pipeline.asking import Structured

Verdict: TypeAlias = Literal["A", "B", "Tie"]
VERDICTS: tuple[Verdict, ...] = ("A", "B", "Tie")
PROMPT = "judge_pair"
_ECHO = re.compile(r"\bA\s*,\s*B\s+or\s+Tie\b", re.IGNORECASE)
_LEAD = re.compile(
    r"[\s\"'`*_#>(\[]*(?:(?:my|your|the|final)\s+)*(?:verdict|answer|response|choice)?"
    r"(?:\s+is)?[\s:\"'`*_(\[]*"
    r"(?P<name>A|B|tie|tied|neither|both)\b(?!'|-\w)", re.IGNORECASE,
)  # fmt: skip
_NO = r"(?:not|no|never|neither|nowhere|hardly|barely|scarcely|rarely|seldom|less|least)\b"
_SAID = re.compile(
    rf"\b(?P<name>A|B)\s+(?:is|was|would\s+be)\s+(?:(?!{_NO})\w+\s+)?"
    rf"(?:(?:the|an?|far|much|(?!{_NO})\w+ly)\s+){{0,2}}(?:better|best|superior|preferable)\b"
    r"|\b(?P<tie>tie|tied|equally\s+good|equally\s+bad|neither\s+is\s+better)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:\b(?:not|cannot|never|hardly|n[oe]ither|nor)|n['\u2019]t)\s+"
    r"(?:(?!(?:but|and|so|while|whereas)\b)\w+\s+){0,3}\Z",
    re.IGNORECASE,
)
"""What stands before a sentence that is denied: 'I do not think that Answer ...'."""


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """What both orders together say of one item: 1 the tuned student won, -1 the base, 0 a tie.

    A tie may be `inconsistent` (the orders disagree), `unreadable` (a verdict was none) or
    `identical` (the answers are the same text; nobody was asked).
    """

    value: Literal[-1, 0, 1]
    kind: Literal["agreed", "inconsistent", "unreadable", "identical"]


def verdict_fields(structured: Structured) -> dict[str, Any]:
    """Fields of the request that hold the judge to a verdict."""
    if structured == "off":
        return {}
    if structured == "choice":
        return {"structured_outputs": {"choice": list(VERDICTS)}}
    schema = {
        "type": "object",
        "properties": {"verdict": {"type": "string", "enum": list(VERDICTS)}},
        "required": ["verdict"],
        "additionalProperties": False,
    }
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "strict": True, "schema": schema},
        }
    }


def parse_verdict(text: str) -> Verdict | None:
    """A judge's verdict; None where the answer holds none, or contradicts itself.

    What it opens with counts, where that is no sentence, or one that says that it is better; else
    any sentence that says which is better. 'Answer A is incorrect' names A, too.
    """
    value = _json_value(text)
    if isinstance(value, str):
        text = value
    elif value is not None:
        return None
    text = _ECHO.sub("", text).strip()
    lead = _LEAD.match(text)
    # An answer that begins like a sentence ('A good answer ...') has said nothing yet.
    if lead is not None and _is_verdict(text, lead):
        return _named(lead["name"])
    found = {
        _named(match["name"] or "tie")
        for match in _SAID.finditer(text)
        if not _DENIED.search(text, 0, match.start())
    }
    return found.pop() if len(found) == 1 else None


def _is_verdict(text: str, lead: re.Match[str]) -> bool:
    """Whether what an answer opens with ends there, gives its reason, or is said to be better."""
    rest = text[lead.end() :]
    if re.match(r"\s+(?:is|was)\b", rest, re.IGNORECASE) is None:
        return not re.match(r"[ \t]+(?!(?:because|since)\b)[a-z]", rest)
    return _named(lead["name"]) == "Tie" or _SAID.match(text, lead.start("name")) is not None


def _named(name: str) -> Verdict:
    upper = name.upper()
    return "A" if upper == "A" else "B" if upper == "B" else "Tie"


def combine(base_first: Verdict | None, tuned_first: Verdict | None) -> PairVerdict:
    """One item's verdict from those of the two orders.

    Args:
        base_first: the verdict where Answer A was the base's.
        tuned_first: the verdict where Answer A was the tuned student's.
    """
    if base_first is None or tuned_first is None:
        return PairVerdict(0, "unreadable")
    one = {"A": -1, "B": 1, "Tie": 0}[base_first]
    other = {"A": 1, "B": -1, "Tie": 0}[tuned_first]
    if one != other:
        return PairVerdict(0, "inconsistent")
    return PairVerdict(1 if one > 0 else -1 if one < 0 else 0, "agreed")


def count_verdicts(verdicts: Sequence[PairVerdict]) -> Mapping[str, int]:
    """How many each student won, ties, and why there are ties; the first three add up to all."""
    values = Counter(verdict.value for verdict in verdicts)
    kinds = Counter(verdict.kind for verdict in verdicts)
    return {
        "tuned won": values[1],
        "base won": values[-1],
        "ties": values[0],
        "inconsistent": kinds["inconsistent"],
        "unreadable": kinds["unreadable"],
        "identical": kinds["identical"],
    }


def _json_value(text: str) -> Any:
    """What the first JSON object of a text says under `verdict`; None where there is none."""
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return None
    return value.get("verdict") if isinstance(value, dict) else None
