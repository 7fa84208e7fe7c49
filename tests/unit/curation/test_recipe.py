"""Recipes: what they may say, and what a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.curation import load_recipe
from pipeline.curation.recipe import bundled_recipes, parse_recipe
from pipeline.curation.steps import STEPS
from pipeline.errors import UsageError
from pipeline.student.settings import TrainingSettings

HEAD = 'description = "x"\n\n'


def message(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse_recipe(text, "r.toml", "r", Path())
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = 3", "r.toml: a recipe needs steps, each a table headed [[steps]]"),
        ("", "r.toml: a recipe needs steps"),
        ("[[steps]]\nstep = \n", "r.toml: not valid TOML: .*line 2"),
        (HEAD + "sed = 3", "r.toml, line 3: unknown key 'sed'; did you mean 'seed'?"),
        (HEAD + 'seed = "x"', "r.toml, line 3: a whole number is expected, got 'x'"),
        ("[[steps]]\ncount = 3", 'r.toml, line 1, step 1: it needs its name, step = "NAME"'),
        (
            HEAD + '[[steps]]\nstep = "near_duplicate"',
            "r.toml, line 4, step 1: unknown step 'near_duplicate'; did you mean 'near_duplicates'?",
        ),
        (
            '[[steps]]\nstep = "random"\ncount = 3\n[[steps]]\nstep = "length"\nmin_outptu = 3',
            "r.toml, line 6, step 2: length has no parameter 'min_outptu'; did you mean 'min_output'?",
        ),
        (
            '[[steps]]\nstep = "length"\nmin_output = "3"',
            "r.toml, line 3, step 1: length min_output: a whole number is expected, got '3'",
        ),
        (
            '[[steps]]\nstep = "length"\nmin_output = true',
            "r.toml, line 3, step 1: length min_output: a whole number is expected, got True",
        ),
        ('[[steps]]\nstep = "length"', "step 1: length: no limit is set; set min_output"),
        (
            '[[steps]]\nstep = "length"\nmin_output = 9\nmax_output = 3',
            "step 1: length: min_output (9) is greater than max_output (3)",
        ),
        (
            '[[steps]]\nstep = "near_duplicates"\nthreshold = 1.5',
            "line 3, step 1: near_duplicates threshold: Input should be less than or equal to 1",
        ),
        (
            '[[steps]]\nstep = "random"',
            "line 1, step 1: random count: it has no default and must be",
        ),
        (
            '[[steps]]\nstep = "language"\nkeep = "en"',
            "line 3, step 1: language keep: .*, got 'en'",
        ),
        (
            '[[steps]]\nstep = "quality"\ndimensions = ["beauty"]',
            "line 3, step 1: quality dimensions.0: Input should be 'completeness', .*got 'beauty'",
        ),
        (
            '[[steps]]\nstep = "top_k"\ncount = 3\nby = "ifd"',
            "step 1: top_k goes by the score 'ifd', which no earlier step makes; put the step "
            "difficulty before it",
        ),
        (
            '[[steps]]\nstep = "difficulty"\n[[steps]]\nstep = "top_k"\ncount = 3\nby = "idf"',
            "line 3, step 2: top_k goes by the score 'idf', which no earlier step makes; scores are",
        ),
        (
            '[[steps]]\nstep = "quality"\nunrated = "keep"\n'
            '[[steps]]\nstep = "diversity"\nby = "quality"',
            "step 2: diversity goes by the score 'quality'",
        ),
        (
            'steps = [{step = "random", count = 1}, {step = "rnadom"}]',
            "r.toml, step 2: unknown step 'rnadom'; did you mean 'random'?",
        ),
        (
            '[training]\nepoch = 3\n[[steps]]\nstep = "random"\ncount = 1',
            "r.toml, line 2: there is no setting training.epoch; did you mean 'epochs'?",
        ),
        (
            '[training]\nepochs = "many"\n[[steps]]\nstep = "random"\ncount = 1',
            "r.toml, line 2: training.epochs: a number is expected, got 'many'",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, said: str) -> None:
    shown = message(text)
    for part in said.split(".*"):
        assert part in shown, shown


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("limma")
    assert "did you mean 'lima'?" in str(caught.value)
    assert all(name in str(caught.value) for name in bundled_recipes())
    (tmp_path / "r.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(str(tmp_path / "r.toml"))


def test_a_file_is_read_before_a_bundled_recipe_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text('seed = 5\n[[steps]]\nstep = "random"\ncount = 2\n')
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert (recipe.name, recipe.seed, recipe.folder) == ("mine", 5, tmp_path)
    assert recipe.steps == (STEPS["random"].model_validate({"count": 2}),)


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_bundled_recipes_are_sound(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.description
    # What was trained on must never be what is tested on.
    assert "decontamination" in [step.step for step in recipe.steps]


def test_lima_has_the_published_training_preset() -> None:
    recipe = load_recipe("lima")
    preset = TrainingSettings(**recipe.training)
    assert (preset.epochs, preset.learning_rate, preset.final_learning_rate) == (15, 1e-5, 1e-6)
    assert (preset.adam_beta1, preset.adam_beta2, preset.weight_decay) == (0.9, 0.95, 0.1)
    assert (preset.batch_size, preset.max_length, preset.warmup) == (32, 2048, 0.0)
    assert "echanical rules" in recipe.description


def test_every_parameter_says_what_it_is() -> None:
    bare = [
        f"{name}.{key}"
        for name, step in STEPS.items()
        for key, field in step.model_fields.items()
        if not field.description
    ]
    assert bare == []
