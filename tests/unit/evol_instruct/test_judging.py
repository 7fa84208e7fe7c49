"""Judgements and ratings as engines of all kinds give them."""

from __future__ import annotations

import pytest

from pipeline.evol_instruct.judging import (
    judgement_fields,
    parse_judgement,
    parse_rating,
    rating_fields,
)


@pytest.mark.parametrize(
    ("text", "is_equal"),
    [
        ("Equal", True),
        (" equal.", True),
        ("Not Equal", False),
        ("**Not equal**", False),
        ("not-equal", False),
        ("NotEqual", False),
        ("Unequal", False),
        ('{"judgement": "Equal"}', True),
        ('Sure: {"judgement": "Not Equal", "why": "equal depth"}', False),
        ("The prompts are not really equal.", False),
        ("They aren't equal.", False),
        ("They are equal.", True),
        ("Equal\n\nThe next pair is Not Equal", True),
        ("Not Equal. The depth is equal, the constraints are not.", False),
        ("Equal or Not Equal, who knows", None),
        ("'Equal' or 'Not Equal': Equal", None),
        ("Equal, or almost", True),
        ("Are they equal? They are not equal.", None),
        ("The second prompt has equal constraints but greater depth.", None),
        ("Not the same. They have equal constraints, but the second goes deeper.", None),
        ("The two prompts are equal in constraints but not in depth.", None),
        ("Equal constraints, but greater depth", None),
        ("It goes deeper, though the constraints are equal.", None),
        ("They have equal constraints, and are equal.", True),
        ("Equal because both ask for the same", True),
        ("My judgement: Equal, I am sure of it.", True),
        ("Both ask for one thing. **Judgement:** equal\n\nThey share all.", True),
        ("I would say 'Equal' here.", True),
        ("The judgement is: equal constraints, other depth", None),
        ("The prompts are not equal in depth.", False),
        ("Not equal in depth, equal in breadth", False),
        ("Equally deep", None),
        ("I think so", None),
        ("", None),
        ('{"judgement": 3}', None),
    ],
)
def test_judgements(text: str, is_equal: bool | None) -> None:
    assert parse_judgement(text) is is_equal


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("7", 7), (" 10 ", 10), ("Score: 4", 4), ("5/10", 5), ("6 out of 10", 6), ("8.0", 8),
        ('{"score": 9}', 9), ('{"score": 11}', None), ('{"score": true}', None), ("8.5", None),
        ("0", None), ("11", None), ("-3", None), ("between 3 and 6", None), ("hard", None),
        ("70%", None), ("3. I rate it 3", 3), ("", None),
    ],
)  # fmt: skip
def test_ratings(text: str, score: int | None) -> None:
    assert parse_rating(text) == score


def test_fields_of_a_request() -> None:
    assert judgement_fields("off") == {}
    assert judgement_fields("choice") == {"structured_outputs": {"choice": ["Equal", "Not Equal"]}}
    schema = judgement_fields("json_schema")["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"judgement": {"type": "string", "enum": ["Equal", "Not Equal"]}}
    assert rating_fields("choice")["structured_outputs"]["choice"] == [str(n) for n in range(1, 11)]
    assert rating_fields("json_schema")["response_format"]["type"] == "json_schema"
