"""Which examples make a batch, and in which order: a pure function of seed, epoch and lengths, so that
a resumed training goes on with the batches that an uninterrupted one would have had."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_POOL_BATCHES = 50
"""Batches that are drawn together and sorted by length: enough to pad little, few enough that what
stands together differs from epoch to epoch."""


class EpochSampler:
    """Indices of one epoch after the other, for a data loader with the same batch size."""

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, *, by_length: bool
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._by_length = by_length
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next, from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        for batch in draw_batches(
            self._lengths, self._batch_size, self._seed, self._epoch, by_length=self._by_length
        ):
            yield from batch


def draw_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, *, by_length: bool
) -> list[list[int]]:
    """The batches of an epoch: examples of like length together, batches in random order.

    A last batch that is not full comes last, as a data loader cuts the sequence.
    """
    draw = random.Random(f"{seed}/batches/{epoch}")  # noqa: S311 - not secret
    order = list(range(len(lengths)))
    draw.shuffle(order)
    if by_length:
        pool = batch_size * _POOL_BATCHES
        order = [
            index
            for start in range(0, len(order), pool)
            for index in sorted(order[start : start + pool], key=lambda i: lengths[i])
        ]
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    rest = batches.pop() if batches and len(batches[-1]) < batch_size else None
    if by_length:
        draw.shuffle(batches)
    return [*batches, rest] if rest else batches


@dataclass(frozen=True, slots=True)
class LargestBatch:
    """The shape that decides how much memory a training takes."""

    examples: int
    length: int
    """Tokens of each row, padding included."""
    trained_tokens: int
    """The most tokens of one batch that the loss is taken on."""


def largest_batch(
    lengths: Sequence[int], trained: Sequence[int], batch_size: int, seed: int, epochs: int,
    *, by_length: bool,
) -> LargestBatch:  # fmt: skip
    """The largest batch of these epochs, padding included, and the most trained tokens of any."""
    most = LargestBatch(0, 0, 0)
    trained_tokens = 0
    for epoch in range(epochs):
        for batch in draw_batches(lengths, batch_size, seed, epoch, by_length=by_length):
            length = max(lengths[index] for index in batch)
            if length * len(batch) > most.length * most.examples:
                most = LargestBatch(len(batch), length, 0)
            trained_tokens = max(trained_tokens, sum(trained[index] for index in batch))
    return LargestBatch(most.examples, most.length, trained_tokens)
