"""Curation: a recipe is a list of small steps, each of which takes candidates and says which stay.

`load_recipe` reads one, `run_recipe` applies it; `pipeline.curation.steps` holds the steps, a file
each. Nothing here knows where candidates come from or what becomes of them.
"""

from pipeline.curation.recipe import Recipe, load_recipe
from pipeline.curation.records import Candidate, Curated, Reject, StepReport
from pipeline.curation.running import run_recipe

__all__ = [
    "Candidate", "Curated", "Recipe", "Reject", "StepReport", "load_recipe", "run_recipe",
]  # fmt: skip
