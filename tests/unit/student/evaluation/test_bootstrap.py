"""Paired bootstrap intervals: right where a formula is known, wider where tasks differ."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pipeline.student.evaluation.bootstrap import paired_interval

BOOTSTRAP = {"resamples": 4000, "confidence": 0.95, "seed": 3}


def normal_differences(count: int) -> list[float]:
    return list(np.random.default_rng(5).normal(0.1, 0.5, count))


def test_items_of_their_own_tasks_give_the_interval_of_a_mean() -> None:
    values = normal_differences(400)
    found = paired_interval(values, range(400), **BOOTSTRAP)
    half = 1.96 * np.std(values) / 400**0.5
    assert found.difference == pytest.approx(np.mean(values))
    assert found.low == pytest.approx(np.mean(values) - half, abs=0.12 * half)
    assert found.high == pytest.approx(np.mean(values) + half, abs=0.12 * half)


def test_items_that_are_alike_within_a_task_do_not_narrow_it() -> None:
    """Forty equal items of each of ten tasks say no more than ten items do."""
    effects = normal_differences(10)
    one_each = paired_interval(effects, range(10), **BOOTSTRAP)
    tasks = [task for task in range(10) for _ in range(40)]
    forty_each = paired_interval([effects[task] for task in tasks], tasks, **BOOTSTRAP)
    assert forty_each.low == pytest.approx(one_each.low, abs=0.03)
    assert forty_each.high == pytest.approx(one_each.high, abs=0.03)


def test_one_task_is_resampled_by_item() -> None:
    values = normal_differences(400)
    alone = paired_interval(values, ["only"] * 400, **BOOTSTRAP)
    apart = paired_interval(values, range(400), **BOOTSTRAP)
    assert alone.high - alone.low == pytest.approx(apart.high - apart.low, rel=0.1)


def test_tasks_of_unequal_size_against_a_plain_loop() -> None:
    rng = random.Random(1)
    tasks = [task for task, size in enumerate((1, 1, 3, 3, 8, 20)) for _ in range(size)]
    values = [rng.gauss(0.3 * task, 1) for task in tasks]
    weights = [rng.randint(1, 30) for _ in tasks]
    found = paired_interval(values, tasks, weights, **BOOTSTRAP)
    means = []
    for _ in range(4000):
        total = count = 0.0
        for _ in range(6):
            chosen = rng.randrange(6)
            places = [place for place, task in enumerate(tasks) if task == chosen]
            for _ in places:
                place = rng.choice(places)
                total += values[place] * weights[place]
                count += weights[place]
        means.append(total / count)
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.08)
    assert found.high == pytest.approx(high, abs=0.08)


def test_the_seed_decides_it() -> None:
    values, tasks = normal_differences(50), [place // 5 for place in range(50)]
    again = paired_interval(values, tasks, **BOOTSTRAP)
    assert paired_interval(values, tasks, **BOOTSTRAP) == again
    assert paired_interval(values, tasks, **{**BOOTSTRAP, "seed": 4}) != again


def test_pieces_of_a_resampling_are_one_resampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held in memory at once has no part in how wide the interval is."""
    values, tasks = normal_differences(60), [place // 4 for place in range(60)]
    whole = paired_interval(values, tasks, **BOOTSTRAP)
    monkeypatch.setattr("pipeline.student.evaluation.bootstrap._CELLS_AT_ONCE", 700)
    pieces = paired_interval(values, tasks, **BOOTSTRAP)
    assert pieces.low == pytest.approx(whole.low, abs=0.02)
    assert pieces.high == pytest.approx(whole.high, abs=0.02)
