"""What a long analysis says, and when."""

from __future__ import annotations

import pytest

from flows import analysis
from flows.analysis import Announcer, Step


def test_a_short_analysis_says_nothing() -> None:
    said: list[str] = []
    Announcer(said.append, first="begun")(Step(5, 100))
    assert said == []


def test_a_long_one_says_first_that_the_run_is_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "_WRITE_EVERY_S", 0.0)
    said: list[str] = []
    announcer = Announcer(said.append, "analysing made", first="made is complete")
    announcer(Step(5, 1000))
    announcer(Step(6, 1000, "made"))
    assert said == [
        "made is complete",
        "analysing made: 5 of 1,000 instructions parsed",
        "analysing made: 6 of 1,000 of made scored",
    ]
