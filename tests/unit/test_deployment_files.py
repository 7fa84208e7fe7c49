"""docker-compose.yml and the Dockerfile against the code: no Docker engine is needed to be wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from flows.cli import app
from flows.deployments import POOLS
from pipeline.config import known_keys


@pytest.fixture(scope="module")
def compose(pytestconfig: pytest.Config) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load(
        (pytestconfig.rootpath / "docker-compose.yml").read_text()
    )
    return value


@pytest.fixture(scope="module")
def dockerfile(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "Dockerfile").read_text()


def test_every_build_target_is_a_stage(compose: dict[str, Any], dockerfile: str) -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE))
    targets = {service["build"]["target"] for service in compose["services"].values()}
    assert targets <= stages
    assert targets == {"cpu", "gpu"}


def test_what_the_dockerfile_copies_is_there(checkout: Path, dockerfile: str) -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (checkout / source).exists(), source


def test_the_image_holds_every_package_of_the_wheel(checkout: Path, dockerfile: str) -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    assert copied == {"pipeline", "flows", "store", "api", "prompts", "seeds"}


def test_every_volume_is_declared_and_its_place_is_the_users(
    compose: dict[str, Any], dockerfile: str
) -> None:
    (made,) = re.findall(r"install -d -o evoloom -g evoloom (.+?)$", dockerfile, re.MULTILINE)
    used = [volume.split(":") for service in compose["services"].values()
            for volume in service["volumes"]]  # fmt: skip
    assert {name for name, _ in used} == set(compose["volumes"])
    assert {place for _, place in used} <= set(made.split())


def test_every_evoloom_variable_is_a_setting(compose: dict[str, Any], dockerfile: str) -> None:
    names = {name for service in compose["services"].values() for name in service["environment"]}
    names |= set(re.findall(r"\b(EVOLOOM_\w+__\w+)=", dockerfile))
    settings = {name for name in names if name.startswith("EVOLOOM_")}
    assert settings
    known = {f"EVOLOOM_{key.upper().replace('.', '__')}" for key in known_keys()}
    assert settings <= known


def test_the_trainer_is_a_worker_of_the_gpu_pool_with_a_gpu(compose: dict[str, Any]) -> None:
    trainer = compose["services"]["trainer"]
    command: Any = typer.main.get_command(app)
    name, *arguments = trainer["command"]
    parsed = command.commands[name].make_context(name, list(arguments)).params
    assert parsed["pool"] in POOLS
    assert parsed["pool"] == "gpu"
    (device,) = trainer["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


def test_the_trainer_waits_for_a_server_that_says_it_is_well(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        for other, wait in service.get("depends_on", {}).items():
            assert wait == {"condition": "service_healthy"}
            assert "healthcheck" in services[other]
    url = services["trainer"]["environment"]["PREFECT_API_URL"]
    port = services["prefect-server"]["command"][-1]
    assert f"http://prefect-server:{port}/api" in url
