"""How many steps a training takes, and the learning rate at each."""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.student.settings import TrainingSettings


def count_steps(rows: int, settings: TrainingSettings, processes: int) -> int:
    """Optimiser steps of a whole training, as the trainer counts them."""
    if settings.max_steps is not None:
        return settings.max_steps
    return max(1, math.ceil(settings.epochs * steps_in_epoch(rows, settings, processes)))


def steps_in_epoch(rows: int, settings: TrainingSettings, processes: int) -> int:
    """Optimiser steps of one pass over the rows."""
    batches = math.ceil(rows / (settings.batch_size * processes))
    return max(1, math.ceil(batches / settings.accumulation))


def make_schedule(
    settings: TrainingSettings, peak: float, steps: int, warmup: int
) -> Callable[[int], float]:
    """The learning rate as a share of its peak, by steps taken: it rises for `warmup` of `steps`
    steps, then falls to its final value."""
    last = settings.final_learning_rate / peak

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if settings.schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        if settings.schedule == "cosine":
            return last + (1.0 - last) * (1.0 + math.cos(math.pi * done)) / 2.0
        return 1.0 + (last - 1.0) * done

    return share
