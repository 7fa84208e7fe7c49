"""The draw of operators, and the arithmetic of growth."""

from __future__ import annotations

from collections import Counter

import pytest

from pipeline.config import Settings, resolve
from pipeline.errors import UsageError
from pipeline.estimate_settings import EstimateSettings
from pipeline.evol_instruct.estimate import estimate_evol_instruct
from pipeline.evol_instruct.manifest import build_manifest, plan_of
from pipeline.evol_instruct.operators import draw_format, draw_operator
from pipeline.evol_instruct.plan import SourceInstance, SourceInstruction
from pipeline.evol_instruct.settings import OPERATORS, EvolInstructSettings
from pipeline.evol_instruct.source import encode_source
from pipeline.teacher.served import ServedModel

DRAWS = 6000
# The 99.9% point of chi-square with five degrees of freedom.
LIMIT = 20.515


def chi_square(counts: Counter[str], weights: list[float]) -> float:
    total = sum(weights)
    expected = [DRAWS * weight / total for weight in weights]
    return sum(
        (counts[name] - want) ** 2 / want
        for name, want in zip(OPERATORS, expected, strict=True)
        if want
    )


def draws(**weights: float) -> Counter[str]:
    settings = EvolInstructSettings(weights=weights)
    return Counter(draw_operator(11, position, settings) for position in range(DRAWS))


def test_operators_are_drawn_with_equal_chances() -> None:
    assert chi_square(draws(), [1.0] * 6) < LIMIT


def test_the_check_sees_one_operator_drawn_two_fifths_more_often() -> None:
    assert chi_square(draws(breadth=1.4), [1.0] * 6) > LIMIT


def test_weights_are_chances() -> None:
    counts = draws(breadth=0.0, deepen=3.0)
    assert counts["breadth"] == 0
    assert chi_square(counts, [1.0, 3.0, 1.0, 1.0, 1.0, 0.0]) < LIMIT


def test_no_weight_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one operator"):
        resolve({f"evol_instruct.weights.{name}": 0.0 for name in OPERATORS}, flags_only=True)


def test_formats_are_drawn_from_those_configured() -> None:
    settings = EvolInstructSettings(data_formats=("JSON data", "a table"))
    assert {draw_format(11, position, settings) for position in range(40)} == {
        "JSON data", "a table",
    }  # fmt: skip


def plan(size: int, rounds: int, **flags: object):  # type: ignore[no-untyped-def]
    settings: Settings = resolve(
        {"run.seed": 1, "evol_instruct.rounds": rounds, **flags}, flags_only=True
    ).settings
    source = encode_source(
        SourceInstruction(f"Do task {number}.", (SourceInstance("", "done"),))
        for number in range(size)
    )
    return plan_of(build_manifest("r", settings, ServedModel("m"), source), source, ())


def test_published_growth() -> None:
    """52,002 instructions, four rounds: 250K in the end, 52 x 4 x 3 = 624K requests at most."""
    estimate = estimate_evol_instruct(plan(52_002, 4), EstimateSettings())
    assert estimate.most_requests == 52_002 * 4 * 3
    assert [round(size, -3) for size in estimate.pool] == [52000, 101000, 151000, 200000, 250000]
    requests = {stage.stage: stage.requests for stage in estimate.stages}
    assert requests["evolve"] == 52_002 * 4
    assert requests["judge"] == pytest.approx(208_008 * 0.98)
    assert requests["respond"] == pytest.approx(208_008 * 0.98 * 0.98)


def test_growth_under_rates_of_its_own() -> None:
    rates = EstimateSettings(evolved=0.5, judged=0.5, answered=1.0, response_tokens=10.0)
    estimate = estimate_evol_instruct(plan(100, 2), rates)
    assert list(estimate.pool) == [100, 125, 150]
    requests = {stage.stage: stage.requests for stage in estimate.stages}
    assert requests == {"evolve": 200, "judge": 100, "respond": 50}
    assert estimate.stages[2].usage.completion_tokens == 500
    rated = estimate_evol_instruct(plan(100, 2, **{"evol_instruct.difficulty": True}), rates)
    assert rated.most_requests == 100 * 2 * 3 + 100 * 3
