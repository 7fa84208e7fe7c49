"""Drawing the shots of a generation prompt (Self-Instruct, section 2.2; METHODS.md a.2)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pipeline.records import ShotRecord


def draw_shots(
    rng: random.Random,
    seeds: Sequence[str],
    machine: Sequence[str],
    visible: int,
    *,
    shots: int,
    machine_shots: int,
) -> list[ShotRecord]:
    """Draw shots without replacement: machine-made ones first, as many as there are up to
    `machine_shots`, the rest from the seeds; then shuffle.

    Args:
        rng: the position's own generator.
        seeds: references of the seed tasks.
        machine: references of the instructions admitted so far.
        visible: how many of them, from the first, this position may see.

    Returns:
        `shots` records (fewer where the pool is smaller), in the order shown.
    """
    made = rng.sample(range(visible), min(machine_shots, shots, visible))
    human = rng.sample(range(len(seeds)), min(shots - len(made), len(seeds)))
    drawn = [("machine", machine[index]) for index in made]
    drawn += [("seed", seeds[index]) for index in human]
    rng.shuffle(drawn)
    return [
        ShotRecord(slot, "machine" if source == "machine" else "seed", reference)
        for slot, (source, reference) in enumerate(drawn)
    ]


def shown_text(instruction: str) -> str:
    """An instruction as a prompt shows it: on one line, without trailing colons."""
    return " ".join(instruction.split()).rstrip(":")
