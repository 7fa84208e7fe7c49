"""Which operator evolves an instruction: drawn by position, before anything is asked."""

from __future__ import annotations

import random

from pipeline.evol_instruct.settings import OPERATORS, EvolInstructSettings, Operator


def draw_operator(run_seed: int, position: int, settings: EvolInstructSettings) -> Operator:
    """The operator of a position: uniform as published, unless weights say otherwise."""
    rng = random.Random(f"{run_seed}/evolve/{position}")  # noqa: S311 - not secret
    return rng.choices(OPERATORS, settings.weights.in_order())[0]


def draw_format(run_seed: int, position: int, settings: EvolInstructSettings) -> str:
    """The format of the data that `complicate_input` asks for at a position."""
    rng = random.Random(f"{run_seed}/evolve_format/{position}")  # noqa: S311 - not secret
    return rng.choice(settings.data_formats)
