"""What a user gets from `pip install .`: built from a copy, used from an empty directory.

The clean environment sees the project's third parties (installing 3 GB again would test pip), but
neither the checkout nor its editable install: evoloom itself comes from the wheel alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

PACKAGES = ("pipeline", "flows", "store", "api", "prompts", "seeds")
DATA = {"prompts": ".j2", "seeds": ".jsonl", "store": ".sql"}

LOAD_WHAT_IS_BUNDLED = """
import json, sys
from importlib import resources
import flows, pipeline, store
from pipeline.prompting import load_templates
from pipeline.seeds import load_seeds, load_shots

prompts = [file.name for file in resources.files("prompts").iterdir() if file.name.endswith(".j2")]
names = sorted({name.partition(".")[0] for name in prompts})
print(json.dumps({
    "origins": sorted({package.__file__ for package in (flows, pipeline, store)}),
    "seeds": len(load_seeds(None)),
    "shots": {name: len(shots) for name, shots in load_shots(None).items()},
    "templates": sorted({**load_templates(names, "completions", None),
                         **load_templates(names, "chat", None)}),
    "prompts": sorted(prompts),
}))
"""


def run(command: list[str | Path], folder: Path) -> str:
    """Output of a command that must succeed, run with nothing of the checkout on its path."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the wheel is built from: a build writes into its source."""
    folder = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(
            pytestconfig.rootpath / package,
            folder / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(pytestconfig.rootpath / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source]
    run(build, source)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def clean_bin(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment into which `pip install .` put evoloom."""
    environment = tmp_path_factory.mktemp("clean") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", environment], source)
    (site_packages,) = environment.glob("lib/python3.*/site-packages")
    # A folder that a .pth file names goes on the path; .pth files inside it are not read.
    third_parties = sysconfig.get_path("purelib")
    (site_packages / "third_parties.pth").write_text(third_parties + "\n", "utf-8")
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python"]
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    run([*pip, "install", *options, "."], source)
    return environment / "bin"


def test_the_wheel_holds_exactly_the_six_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top_level = {name.partition("/")[0] for name in archive.namelist()}
    info = {name for name in top_level if name.endswith(".dist-info")}
    assert top_level - info == set(PACKAGES)
    assert len(info) == 1


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path, source: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(source).as_posix()
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    assert inside == files
    for package, ending in DATA.items():
        assert any(name.startswith(f"{package}/") and name.endswith(ending) for name in inside)


def test_the_wheel_carries_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        (licence,) = (name for name in archive.namelist() if name.endswith("/licenses/LICENSE"))
        assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()
        assert "Apache License" in archive.read(licence).decode()


def test_the_command_answers_from_an_empty_directory(clean_bin: Path, tmp_path: Path) -> None:
    assert "self-instruct" in run([clean_bin / "evoloom", "run", "--help"], tmp_path)
    assert "novelty.threshold" in run([clean_bin / "evoloom", "config", "show"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_bundled_loads_from_the_installed_package(clean_bin: Path, tmp_path: Path) -> None:
    loaded = json.loads(run([clean_bin / "python", "-c", LOAD_WHAT_IS_BUNDLED], tmp_path))
    environment = str(clean_bin.parent.resolve())
    assert all(origin.startswith(environment) for origin in loaded["origins"])
    assert loaded["seeds"] == 175
    assert all(loaded["shots"].values())
    assert loaded["templates"] == loaded["prompts"]
