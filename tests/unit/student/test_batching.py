"""Order of batches and the learning rate: pure functions of the settings."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from pipeline.student.batching import EpochSampler, draw_batches, largest_batch
from pipeline.student.schedule import count_steps, make_schedule
from pipeline.student.settings import TrainingSettings

_DRAW = random.Random(5)
LENGTHS = [_DRAW.randrange(10, 400) for _ in range(1003)]


def padding(batches: list[list[int]]) -> float:
    padded = sum(len(batch) * max(LENGTHS[i] for i in batch) for batch in batches)
    return padded / sum(LENGTHS)


@pytest.mark.parametrize("by_length", [True, False])
def test_an_epoch_has_every_example_once_and_epochs_differ(by_length: bool) -> None:
    epochs = [draw_batches(LENGTHS, 8, 3, epoch, by_length=by_length) for epoch in (0, 1)]
    for batches in epochs:
        assert sorted(i for batch in batches for i in batch) == list(range(len(LENGTHS)))
        assert [len(batch) for batch in batches] == [8] * 125 + [3]
    assert epochs[0] != epochs[1]
    assert draw_batches(LENGTHS, 8, 3, 1, by_length=by_length) == epochs[1]
    assert draw_batches(LENGTHS, 8, 4, 1, by_length=by_length) != epochs[1]


def test_batching_by_length_pads_little_in_batches_of_random_order() -> None:
    by_length = draw_batches(LENGTHS, 8, 3, 0, by_length=True)
    assert padding(by_length) < 1.1 < 1.5 < padding(draw_batches(LENGTHS, 8, 3, 0, by_length=False))
    longest = [max(LENGTHS[i] for i in batch) for batch in by_length]
    # Sorted batches would teach short answers first.
    rising = sum(a < b for a, b in pairwise(longest))
    assert 40 < rising < 85


def test_a_sampler_gives_the_batches_of_the_epoch_it_was_told() -> None:
    sampler = EpochSampler(LENGTHS, 8, 3, by_length=True)
    for epoch in (4, 0):
        sampler.set_epoch(epoch)
        drawn = draw_batches(LENGTHS, 8, 3, epoch, by_length=True)
        assert list(sampler) == [i for batch in drawn for i in batch]


def test_the_largest_batch_is_one_of_those_that_are_drawn() -> None:
    trained = [length // 2 for length in LENGTHS]
    found = largest_batch(LENGTHS, trained, 8, 3, 2, by_length=True)
    shapes = [
        (len(batch), max(LENGTHS[i] for i in batch))
        for epoch in (0, 1)
        for batch in draw_batches(LENGTHS, 8, 3, epoch, by_length=True)
    ]
    assert (found.examples, found.length) == max(shapes, key=math.prod)
    assert 8 * 100 < found.trained_tokens <= 8 * 200


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_learning_rate_rises_and_falls_to_its_final_value(schedule: str) -> None:
    values = {"schedule": schedule, "final_learning_rate": 1e-6}
    settings = TrainingSettings.model_validate(values)
    share = make_schedule(settings, 1e-5, 100, 10)
    rates = [share(step) for step in range(101)]
    assert 0 < rates[0] < rates[5] < rates[10] == 1.0
    assert rates[100] == pytest.approx(1.0 if schedule == "constant" else 0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    middle = {"linear": 0.55, "cosine": 0.55, "constant": 1.0}[schedule]
    assert rates[55] == pytest.approx(middle)


def test_steps_are_counted_as_the_trainer_takes_them() -> None:
    settings = TrainingSettings(epochs=3, batch_size=8, accumulation=2)
    assert count_steps(100, settings, 1) == 21  # 13 batches, 7 steps an epoch
    assert count_steps(100, settings, 2) == 12
    assert count_steps(100, TrainingSettings(max_steps=5), 1) == 5
    assert count_steps(3, TrainingSettings(epochs=0.5, batch_size=8), 1) == 1
