"""What a Self-Instruct run would take at most."""

from __future__ import annotations

import pytest

from pipeline.estimate_settings import EstimateSettings
from pipeline.self_instruct.estimate import estimate_self_instruct
from tests.support.memory import make_plan


@pytest.mark.parametrize(
    ("api", "shots", "instructions"),
    [
        ("completions", 8, 7), ("completions", 14, 1),
        ("completions", 20, 15),  # the stop strings of item 16 end nothing that starts behind it
        ("chat", 8, 15),  # a list of its own from 1 to 15
        ("chat", 20, 15),
    ],
)  # fmt: skip
def test_most_requests_are_those_of_the_fullest_answers(
    api: str, shots: int, instructions: int
) -> None:
    plan = make_plan(10, teacher__api=api, self_instruct__shots=shots)
    estimate = estimate_self_instruct(plan, EstimateSettings())
    assert estimate.most_requests == plan.ceiling * (1 + 2 * instructions)
