"""Verdicts: how they are read, and how both orders become one."""

from __future__ import annotations

import pytest

from pipeline.student.evaluation.judging import (
    VERDICTS,
    PairVerdict,
    combine,
    count_verdicts,
    parse_verdict,
    verdict_fields,
)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A", "A"), (" B\n", "B"), ("Tie", "Tie"), ("tie.", "Tie"), ("**B**", "B"), ("(A)", "A"),
        ("Answer B", "B"), ("Answer A is better.", "A"), ("The verdict is B", "B"),
        ("My verdict: Tie", "Tie"), ("Neither", "Tie"), ("B, since A is wrong", "B"),
        ("A is better than B", "A"), ("I think B is better", "B"), ("It is a tie.", "Tie"),
        ("A is clearly the better answer", "A"), ("A, since B is not better", "A"),
        ("A because it is right", "A"), ("Neither is good.", "Tie"),
        ("Answer A is not bad but Answer B is better.", "B"),
        ("I do not think that A is better. B is better.", "B"),
        ("A\n\nAnswer A does what was asked.", "A"), ("A, B or Tie: B", "B"),
        ('{"verdict": "Tie"}', "Tie"), ('Sure: {"verdict": "A"} because', "A"),
    ],
)  # fmt: skip
def test_is_read(text: str, verdict: str) -> None:
    assert parse_verdict(text) == verdict


@pytest.mark.parametrize(
    "text",
    [
        "", "Both answers are good", "A good answer would name three rivers", "Because",
        "Alice is right", "I think B is better, though A is better in style", "A, B or Tie",
        "Answer A is incorrect, while Answer B is right.", "A is worse than B.", "B was wrong.",
        "Answer A is not better than Answer B.", "A is no better than B", "A is hardly better",
        "The answer A is less preferable.", "I think A is never better", "A\nis worse",
        "I do not think that Answer A is better.", "I think neither A nor B is better",
        "It is not a tie.", "A is far from better", "A is worse and B better",
        '{"verdict": 3}', '{"verdict": "C"}', '{"score": "A"}', "[[", "B-movies are fun",
    ],
)  # fmt: skip
def test_is_not_guessed(text: str) -> None:
    assert parse_verdict(text) is None


@pytest.mark.parametrize(
    ("base_first", "tuned_first", "expected"),
    [
        ("B", "A", PairVerdict(1, "agreed")),
        ("A", "B", PairVerdict(-1, "agreed")),
        ("Tie", "Tie", PairVerdict(0, "agreed")),
        ("A", "A", PairVerdict(0, "inconsistent")),
        ("B", "B", PairVerdict(0, "inconsistent")),
        ("B", "Tie", PairVerdict(0, "inconsistent")),
        (None, "A", PairVerdict(0, "unreadable")),
        ("B", None, PairVerdict(0, "unreadable")),
    ],
)
def test_an_answer_wins_only_in_both_orders(
    base_first: str | None, tuned_first: str | None, expected: PairVerdict
) -> None:
    assert combine(base_first, tuned_first) == expected  # type: ignore[arg-type]


def test_wins_and_ties_add_up() -> None:
    verdicts = [
        PairVerdict(1, "agreed"), PairVerdict(-1, "agreed"), PairVerdict(0, "agreed"),
        PairVerdict(0, "inconsistent"), PairVerdict(0, "unreadable"), PairVerdict(0, "identical"),
    ]  # fmt: skip
    counts = count_verdicts(verdicts)
    assert counts == {"tuned won": 1, "base won": 1, "ties": 4, "inconsistent": 1,
                      "unreadable": 1, "identical": 1}  # fmt: skip
    assert counts["tuned won"] + counts["base won"] + counts["ties"] == len(verdicts)


def test_an_engine_is_held_to_the_verdicts() -> None:
    assert verdict_fields("choice") == {"structured_outputs": {"choice": list(VERDICTS)}}
    schema = verdict_fields("json_schema")["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["verdict"]["enum"] == list(VERDICTS)
    assert verdict_fields("off") == {}
