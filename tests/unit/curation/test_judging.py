"""What a judge is asked, and how its answers are read."""

from __future__ import annotations

import json

import pytest

from pipeline.curation.judge_machine import UNREADABLE, JudgeMachine, JudgingPlan
from pipeline.curation.judging import (
    DIMENSIONS,
    PROMPT,
    JudgedText,
    JudgePlan,
    decode_texts,
    default_decoding,
    encode_texts,
    parse_quality,
    quality_fields,
)
from pipeline.prompting import load_templates
from pipeline.records import Address, Batch, Completion, JournalEntry, Refusal

TWO = ("accuracy", "helpfulness")


def rated(**scores: object) -> str:
    return json.dumps({name: {"reason": f"why {name}", "score": value}
                       for name, value in scores.items()})  # fmt: skip


class TestParsing:
    @pytest.mark.parametrize(
        "text",
        [
            rated(accuracy=4, helpfulness=2),
            f"Sure. Here it is:\n```json\n{rated(accuracy=4, helpfulness=2)}\n```\nAnything else?",
            rated(accuracy="4", helpfulness="2/5"),
            rated(accuracy=4.0, helpfulness=2),
            '{"accuracy": 4, "helpfulness": 2}',
            rated(accuracy=4, helpfulness=2)[:-2],  # cut off behind the last score
            "Accuracy: 4 - fine\n**Helpfulness**: 2/5",
        ],
    )
    def test_scores_in_many_forms(self, text: str) -> None:
        judgement = parse_quality(text, TWO)
        assert judgement is not None
        assert judgement.scores == {"accuracy": 4, "helpfulness": 2}

    def test_reasons_are_kept(self) -> None:
        judgement = parse_quality(rated(accuracy=4, helpfulness=2)[:-1], TWO)
        assert judgement is not None
        assert judgement.reasons == {"accuracy": "why accuracy", "helpfulness": "why helpfulness"}

    @pytest.mark.parametrize(
        "text",
        [
            "", "4", "It is good.", rated(accuracy=4), rated(accuracy=4, helpfulness=6),
            rated(accuracy=0, helpfulness=2), rated(accuracy=True, helpfulness=2),
            rated(accuracy=4.5, helpfulness=2), rated(accuracy=4, helpfulness=None),
            rated(accuracy=4, helpfulness=2)[:-4], "Accuracy: 45\nHelpfulness: 2", "{" * 5000,
        ],
    )  # fmt: skip
    def test_what_does_not_say_a_score_for_each_is_unreadable(self, text: str) -> None:
        assert parse_quality(text, TWO) is None


def test_the_schema_asks_for_a_reason_and_a_score_in_each_dimension() -> None:
    fields = quality_fields(TWO, "json_schema")
    schema = fields["response_format"]["json_schema"]["schema"]
    assert schema["required"] == list(TWO)
    assert list(schema["properties"]["accuracy"]["properties"]) == ["reason", "score"]
    assert schema["properties"]["accuracy"]["properties"]["score"]["enum"] == [1, 2, 3, 4, 5]
    assert quality_fields(TWO, "off") == {}


def test_texts_survive_their_file() -> None:
    texts = [JudgedText("a\u2028b", "\ud83d", "c\nd"), JudgedText("", "", "")]
    assert decode_texts(encode_texts(texts)) == texts


def machine(*texts: str, re_asks: int = 1) -> JudgeMachine:
    return JudgeMachine(
        JudgingPlan(
            JudgePlan(tuple(DIMENSIONS), default_decoding()),
            [JudgedText(text, "", "x") for text in texts], 5, "m", "chat", "json_schema",
            frozenset(), re_asks, load_templates([PROMPT], "chat", None),
        )
    )  # fmt: skip


def entry(address: Address, text: str | None) -> JournalEntry:
    outcome = Refusal("content_policy", "no") if text is None else Completion(text, "stop", None)
    return JournalEntry(address, "", "", {}, outcome, 0, 0.0, "2026-11-26T00:00:00+00:00")


GOOD = rated(**dict.fromkeys(DIMENSIONS, 5))


class TestMachine:
    def test_asks_again_as_often_as_set_and_no_more(self) -> None:
        judge = machine("a", "b", "c", re_asks=2)
        first = judge.ready()
        assert [str(address) for address in first] == ["quality/0", "quality/1", "quality/2"]
        judge.apply(entry(first[1], "?"))
        assert [str(address) for address in judge.ready()] == ["quality/1/1"]
        judge.apply(entry(Address("quality", (1,), 1), "?"))
        judge.apply(entry(first[0], GOOD))
        (last,) = judge.ready()
        assert judge.finished() is None
        judge.apply(entry(last, "?"))
        judge.apply(entry(first[2], None))  # a refusal will not change
        assert judge.ready() == []
        assert judge.finished() == "completed"
        assert list(judge.judgements) == [0]
        assert judge.re_asked == 2
        assert dict(judge.progress().rejected) == {UNREADABLE: 2}

    def test_every_answer_is_a_row_in_the_order_of_the_texts(self) -> None:
        judge = machine("a", "b")
        first, second = judge.ready()
        judge.apply(entry(second, GOOD))
        assert judge.drain() == []
        judge.apply(entry(first, "?"))
        assert judge.drain() == []
        (again,) = judge.ready()
        judge.apply(entry(again, GOOD))
        batches: list[Batch] = judge.drain()
        assert [batch.position for batch in batches] == [(0,), (1,)]
        rows = [(row.position, row.attempt, row.state, row.reason)
                for batch in batches for row in batch.completions]  # fmt: skip
        assert rows == [
            ((0,), 0, "discarded", UNREADABLE), ((0,), 1, "used", None), ((1,), 0, "used", None),
        ]  # fmt: skip

    def test_a_request_shows_what_is_judged_and_is_the_same_again(self) -> None:
        judge = machine("Name a river.")
        (address,) = judge.ready()
        request = judge.request(address)
        assert "Name a river." in request.prompt_text()
        assert all(name in request.prompt_text() for name in DIMENSIONS)
        assert request == machine("Name a river.").request(address)
        assert request.parameters["response_format"]["type"] == "json_schema"
