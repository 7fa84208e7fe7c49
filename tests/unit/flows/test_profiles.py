"""Profiles of scheduled flows: what is right, what is wrong and how that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.parameters import setting_flags
from flows.profiles import CHAIN, NightlyProfile, load_profile, read_profile
from pipeline.config import parse_flag, resolve
from pipeline.errors import UsageError

WRONG = [
    ("nightly", {"stepz": []}, "stepz: unknown key; did you mean steps?"),
    ("nightly", {"steps": ["grow"]}, "steps.0: Input should be 'self-instruct', 'evol-instruct'"),
    ("nightly", {"steps": ["train", "curate"], "source": "x"}, "in this order: self-instruct, evol"),
    ("nightly", {"steps": ["train", "train"], "source": "x"}, "each at most once"),
    ("nightly", {"steps": ["train"]}, "source is missing: a dataset or a run that train begins with"),
    ("nightly", {"source": "x"}, "begins with self-instruct, which takes none"),
    ("nightly", {"steps": ["curate", "evaluate"], "source": "x"}, "evaluate needs train before it"),
    ("nightly", {"steps": ["self-instruct"], "train": {"preset": True}}, "[train] is given, but"),
    ("nightly", {"student_pool": "tpu"}, "student_pool: Input should be 'gpu', got 'tpu'"),
    ("nightly", {"curate": {"datasets": "x"}}, "curate.datasets: unknown key; did you mean dataset?"),
    ("nightly", {"train": {"preset": "yes"}}, "train.preset: true or false is expected, got 'yes'"),
    ("nightly", {"run_id": "x"}, "run_id: each flow run makes a run of its own"),
    ("nightly", {"settings": {"run": {"targets": 1}}}, "'run.targets'; did you mean 'run.target'?"),
    ("nightly", {"train": {"settings": {"training": {"epochs": -1}}}},
     "settings of train: setting 'training.epochs'"),
    ("self-instruct", {"settings": {"teacher": {"api_key": "sk-1"}}}, "teacher.api_key is a secret"),
    ("self-instruct", {"target": 3}, "target: unknown key"),
    ("evol-instruct", {}, "settings.evol_instruct.source is missing"),
    ("curate", {"sources": ["x"]}, "name: it is missing and has no default"),
    ("curate", {"name": "x", "sources": []}, "sources: List should have at least 1 item"),
    ("train-student", {"dataset": ""}, "dataset: it must not be empty"),
    ("evaluate-student", {}, "training: it is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("flow", "values", "message"), WRONG)
def test_a_mistake_is_named_with_its_file(flow: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_profile(flow, values, "profile mine.toml")
    assert str(caught.value).startswith("profile mine.toml")
    assert message in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_the_example_is_right(pytestconfig: pytest.Config) -> None:
    profile = load_profile("nightly", pytestconfig.rootpath / "docs/profiles/nightly.toml")
    assert isinstance(profile, NightlyProfile)
    assert profile.steps == CHAIN
    assert profile.settings_of("self-instruct")["run"] == {"target": 500}
    assert profile.settings_of("train")["teacher"] == {"concurrency": 32}


def test_parameters_make_the_same_profile_again() -> None:
    values = {
        "steps": ["curate", "train"], "source": "night", "settings": {"run": {"seed": 1}},
        "curate": {"dataset": "fine"}, "train": {"settings": {"training": {"epochs": 1.5}}},
    }  # fmt: skip
    profile = read_profile("nightly", values, "here")
    assert profile.parameters() == values
    assert read_profile("nightly", profile.parameters(), "there") == profile


def test_a_steps_settings_are_over_those_of_all() -> None:
    values = {"settings": {"run": {"target": 5, "seed": 1}},
              "self_instruct": {"settings": {"run": {"target": 9}}}}  # fmt: skip
    profile = read_profile("nightly", values, "here")
    assert isinstance(profile, NightlyProfile)
    assert profile.settings_of("self-instruct") == {"run": {"target": 9, "seed": 1}}
    assert profile.settings_of("train") == {"run": {"target": 5, "seed": 1}}


def test_a_recipe_file_is_read_in_and_a_wrong_one_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[[steps]]\nstep = "exact_duplicates"\n')
    path = tmp_path / "profile.toml"
    path.write_text('[curate]\nrecipe = "mine.toml"\n')
    profile = load_profile("nightly", path)
    assert isinstance(profile, NightlyProfile)
    assert profile.curate.recipe == "mine"
    assert profile.curate.recipe_text == (tmp_path / "mine.toml").read_text()
    path.write_text('[curate]\nrecipe = "other"\n')
    with pytest.raises(UsageError, match="none of those that come with evoloom"):
        load_profile("nightly", path)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    with pytest.raises(UsageError, match=r"profile .*profile\.toml: cannot be read"):
        load_profile("nightly", path)
    path.write_text("steps = [")
    with pytest.raises(UsageError, match=r"profile .*profile\.toml: not valid TOML"):
        load_profile("nightly", path)


def test_settings_reach_a_command_as_they_are() -> None:
    values = {
        "run": {"target": 3}, "prices": {"models": {"a.b/c": {"prompt": 1.5}}},
        "novelty": {"against": ["a", "b"]}, "teacher": {"model": 'x"y', "base_url": None},
    }  # fmt: skip
    flags = setting_flags(values)
    given = dict(parse_flag(text) for text in flags[1::2])
    settings = resolve(given, flags_only=True).settings
    assert settings.run.target == 3
    assert settings.novelty.against == ("a", "b")
    assert settings.teacher.model == 'x"y'
    assert settings.prices.models["a.b/c"].prompt == 1.5
