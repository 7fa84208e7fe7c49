"""Paired bootstrap intervals, resampled by task, then by item.

Items of one task are alike, so that resampling items alone makes intervals too narrow: what would
change in another evaluation is first of all which tasks it holds. Each resample draws as many tasks
as there are, with replacement, and of each drawn task as many items as it has. Both students'
scores of an item stay together (Efron and Tibshirani 1993, chapter 8; Koehn 2004, "Statistical
Significance Tests for Machine Translation Evaluation").
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from pipeline.student.evaluation.records import Interval

_CELLS_AT_ONCE = 4_000_000
"""Drawn items held in memory at once, about: 32 MB of them."""


def paired_interval(
    differences: Sequence[float],
    tasks: Sequence[Hashable],
    weights: Sequence[float] | None = None,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """The weighted mean of paired differences with its percentile bootstrap interval.

    Args:
        differences: tuned minus base, one an item.
        tasks: the task of each item.
        weights: what an item counts; None: all alike.
        seed: the same gives the same interval.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    weight = np.ones_like(values) if weights is None else np.asarray(weights, dtype=float)
    groups: dict[Hashable, list[int]] = {}
    for place, task in enumerate(tasks):
        groups.setdefault(task, []).append(place)
    members = sorted(groups.values(), key=len)
    sizes = np.asarray([len(places) for places in members])
    # Tasks with equally many items are drawn from together: a table of them for each size.
    tables = {
        int(size): (np.searchsorted(sizes, size), np.asarray([places for places in members
                                                              if len(places) == size]))
        for size in np.unique(sizes)
    }  # fmt: skip
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _CELLS_AT_ONCE // max(1, len(values)))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = generator.integers(0, len(members), (count, len(members)))
        drawn_sizes = sizes[drawn]
        sums, totals = np.zeros(count), np.zeros(count)
        for size, (first, table) in tables.items():
            rows, columns = np.nonzero(drawn_sizes == size)
            which = drawn[rows, columns] - first
            items = table[which[:, None], generator.integers(0, size, (len(rows), size))]
            weighted = (values[items] * weight[items]).sum(axis=1)
            sums += np.bincount(rows, weighted, minlength=count)
            totals += np.bincount(rows, weight[items].sum(axis=1), minlength=count)
        means[start : start + count] = sums / totals
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    mean = float((values * weight).sum() / weight.sum())
    return Interval(mean, float(low), float(high))
