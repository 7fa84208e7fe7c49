"""What a progress record looks like on one line."""

from __future__ import annotations

from typing import Any

import pytest

from flows.progress import line


def record(**changes: Any) -> dict[str, Any]:
    """A record of a run that goes on."""
    stages = {"generate": {"done": 3, "known": 9, "in_flight": 2}}
    return {
        "state": "running", "reason": None, "elapsed_s": 61.0, "remaining_s": None, "accepted": 5,
        "target": 10, "stages": stages, "tokens_per_s": 12.3, "concurrency": 16,
        "concurrency_limit": 16, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(("now", "shown"), [(16, False), (4, True)])
def test_the_concurrency_is_shown_while_it_is_below_the_most(now: int, shown: bool) -> None:
    text = line(record(concurrency=now))
    assert text.startswith("[1:01] accepted 5/10")
    assert ("concurrency" in text) == shown
    assert ("concurrency 4/16" in text) == shown


def test_records_of_earlier_versions_have_none() -> None:
    old = {key: value for key, value in record().items() if not key.startswith("concurrency")}
    assert "concurrency" not in line(old)
