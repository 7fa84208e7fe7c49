"""Asking a teacher how good an instance is: what is asked, and how answers are read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.asking import RequestMaker, StageModel
from pipeline.curation.records import Candidate
from pipeline.decoding import Decoding, StageDecoding
from pipeline.errors import UsageError
from pipeline.prompting import Api, PromptBook
from pipeline.records import Address
from pipeline.run.requests import TeacherRequest

Dimension = Literal["completeness", "accuracy", "reasonableness", "harmlessness", "helpfulness"]
DIMENSIONS: Mapping[Dimension, str] = {
    "completeness": "instruction and response are whole and well formed; nothing is cut off or missing",
    "accuracy": "the response is true, does what the instruction means, and invents nothing",
    "reasonableness": "the response is consistent with its context and its reasoning holds",
    "harmlessness": "neither instruction nor response is harmful, offensive or biased",
    "helpfulness": "the response is substantial, on the point and useful to whoever asks",
}
"""The five dimensions of quality (METHODS.md e.1), and what each asks."""
Structured = Literal["json_schema", "off"]
PROMPT = "rate_quality"
STAGE = "quality"
LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True, slots=True)
class JudgePlan:
    """What a judge is asked about each candidate."""

    dimensions: tuple[Dimension, ...]
    decoding: StageDecoding


@dataclass(frozen=True, slots=True)
class Judgement:
    """Scores from 1 to 5 with a reason, by dimension."""

    scores: Mapping[str, int]
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class JudgedText:
    """What is shown of a candidate."""

    instruction: str
    input: str
    output: str

    @classmethod
    def of(cls, candidate: Candidate) -> JudgedText:
        """Of a conversation the further turns belong to the response, each with its speaker."""
        further = "".join(
            f"\n\nUser: {user}\n\nAssistant: {said}" for user, said in candidate.turns
        )
        return cls(candidate.instruction, candidate.input, candidate.output + further)


def default_decoding() -> StageDecoding:
    """Greedy; room for five reasons."""
    decoding = Decoding(max_tokens=512, temperature=0.0)
    return StageDecoding(completions=decoding, chat=decoding)


def quality_fields(dimensions: Sequence[str], structured: Structured) -> dict[str, Any]:
    """Fields of the request that hold the engine to the answer's form."""
    if structured == "off":
        return {}
    one = _object(
        {
            "reason": {"type": "string"},
            "score": {"type": "integer", "enum": list(range(LOWEST, HIGHEST + 1))},
        }
    )
    schema = _object(dict.fromkeys(dimensions, one))
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "quality", "strict": True, "schema": schema},
        }
    }


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def parse_quality(text: str, dimensions: Sequence[str]) -> Judgement | None:
    """The judgement in an answer; None where a dimension lacks a score or has one out of range.

    An answer that was cut off is read as far as it goes, and so is JSON inside other words.
    """
    value = _json_object(text)
    scores: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for name in dimensions:
        rated = value.get(name) if value else None
        score, reason = _rated(rated) if rated is not None else _rated_in_text(text, name)
        if score is None:
            return None
        scores[name], reasons[name] = score, reason
    return Judgement(scores, reasons)


def _rated(value: Any) -> tuple[int | None, str]:
    if isinstance(value, Mapping):
        return _score(value.get("score")), str(value.get("reason") or "")
    return _score(value), ""


def _score(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\s*[1-5](?:\.0)?\s*(?:/\s*5)?\s*", value):
        value = int(value.strip()[0])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value in range(LOWEST, HIGHEST + 1) else None


def _rated_in_text(text: str, name: str) -> tuple[int | None, str]:
    """From `"accuracy": {"reason": "...", "score": 4`, or from a line `Accuracy: 4 - ...`."""
    found = re.search(
        rf'"{name}"\s*:\s*\{{\s*"reason"\s*:\s*"((?:[^"\\]|\\.)*)"\s*,\s*"score"\s*:\s*"?([1-5])\b',
        text,
    )
    if found:
        return int(found[2]), found[1]
    found = re.search(
        rf"^\W*{name}\W*[:=-]\W*(?:score\W*)?([1-5])(?:\s*/\s*5)?(?![\d.])(.*)$",
        text,
        re.IGNORECASE | re.MULTILINE,
    )
    return (int(found[1]), found[2].strip(" \t-:;.,()*")) if found else (None, "")


def _json_object(text: str) -> dict[str, Any] | None:
    start = text.find("{")
    if start < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class QualityAsker:
    """Makes the request of an address."""

    def __init__(
        self,
        plan: JudgePlan,
        templates: Mapping[str, str],
        api: Api,
        model: str,
        run_seed: int,
        structured: Structured,
        drop_parameters: frozenset[str],
    ) -> None:
        self._plan = plan
        self._structured = structured
        teacher = StageModel(model, api, drop_parameters)
        self._maker = RequestMaker.of(templates, teacher, run_seed)

    def request(self, address: Address, text: JudgedText) -> TeacherRequest:
        """Ask for a score and a reason in each dimension."""
        return self._maker.make(
            address, PROMPT, self._plan.decoding,
            quality_fields(self._plan.dimensions, self._structured),
            **prompt_values(self._plan, text),
        )  # fmt: skip


def prompt_values(plan: JudgePlan, text: JudgedText) -> dict[str, Any]:
    """The variables of the prompt."""
    return {
        "instruction": text.instruction,
        "input": text.input,
        "output": text.output,
        "dimensions": {name: DIMENSIONS[name] for name in plan.dimensions},
    }


def check_prompt(book: PromptBook, plan: JudgePlan) -> None:
    """Render the prompt once.

    Raises:
        UsageError: the template uses what it is not given, fails, or does not show what is judged.
    """
    text = JudgedText("Name a river of Europe.", "It is in Spain.", "The Ebro is one.")
    for shown in (text.instruction, text.input, text.output, *plan.dimensions):
        book.check(PROMPT, shown, **prompt_values(plan, text))


def encode_texts(texts: Sequence[JudgedText]) -> bytes:
    """Texts as the file that a judgement's run directory keeps of them."""
    lines = (
        json.dumps([text.instruction, text.input, text.output], ensure_ascii=False)
        for text in texts
    )
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def decode_texts(data: bytes) -> list[JudgedText]:
    """What `encode_texts` wrote.

    Raises:
        UsageError: the file was altered.
    """
    try:
        lines = data.decode("utf-8", "surrogatepass").split("\n")
        return [JudgedText(*json.loads(line)) for line in lines if line]
    except (ValueError, TypeError) as exc:
        raise UsageError(f"the texts to be judged cannot be read: {exc}") from exc
