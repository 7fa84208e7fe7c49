"""docker-compose.yml and the Dockerfile against the code: no Docker engine is needed to be wrong."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli import app
from flows.deployments import POOLS
from pipeline.config import SECRET_KEYS, known_keys, load_settings
from store.service.database import ServiceDatabase
from store.service.keys import set_admin_key
from tests.support.cli import clean
from tests.support.compose import (
    image_of,
    names_of,
    ports_of,
    read_compose,
    services_of,
    variables_of,
)
from tests.support.postgres import postgres_version

COMPOSE = read_compose()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
CLI = [name for name in OURS if "entrypoint" not in SERVICES[name]]
ADDRESS = re.compile(r"(?:@|//)([\w-]+|127\.0\.0\.1):(\d+)")


@pytest.fixture(scope="module")
def dockerfile(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "Dockerfile").read_text()


def parsed(service: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The command of a service as the command line reads it: its name, its options."""
    command: Any = typer.main.get_command(app)
    words = list(service["command"])
    name = ""
    while hasattr(command, "commands"):
        name = f"{name} {words[0]}".strip()
        command = command.commands[words.pop(0)]
    return name, command.make_context(name, words).params


def told(service: dict[str, Any]) -> str:
    """All texts that say where something is."""
    return "\n".join(map(str, [*service.get("command", []), *service["environment"].values(),
                               *service["healthcheck"]["test"]]))  # fmt: skip


class TestServices:
    def test_the_two_profiles_differ_in_device_and_arguments_alone(self) -> None:
        assert list(services_of(COMPOSE, "cpu")) == [
            "postgres", "prefect-server", "teacher-cpu", "worker", "api", "trainer-cpu"
        ]  # fmt: skip
        assert set(services_of(COMPOSE, "gpu")) == {
            "postgres", "prefect-server", "teacher", "worker", "api", "trainer"
        }  # fmt: skip
        for name in ("teacher", "trainer"):
            on_gpu, on_cpu = dict(SERVICES[name]), dict(SERVICES[f"{name}-cpu"])
            for service in (on_gpu, on_cpu):
                for key in ("image", "build", "profiles", "configs", "deploy"):
                    del service[key]
            assert on_gpu == on_cpu
        sources = {name: [config["source"] for config in SERVICES[name]["configs"]]
                   for name in ("teacher", "trainer", "teacher-cpu", "trainer-cpu")}  # fmt: skip
        assert sources == {"teacher": ["gpu"], "trainer": ["gpu"],
                           "teacher-cpu": ["cpu"], "trainer-cpu": ["cpu"]}  # fmt: skip

    @pytest.mark.parametrize("name", ["teacher", "trainer"])
    def test_a_gpu_is_reserved(self, name: str) -> None:
        (device,) = SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
        # Of their own: Docker gives several services the same ones where it is to count.
        assert device == {
            "driver": "nvidia", "device_ids": [{"teacher": "0", "trainer": "1"}[name]],
            "capabilities": ["gpu"],
        }  # fmt: skip

    @pytest.mark.parametrize("name", SERVICES)
    def test_each_is_watched_limited_restarted_and_not_root(self, name: str) -> None:
        service = SERVICES[name]
        health = service["healthcheck"]
        assert health["test"][0] == "CMD"
        assert {"interval", "timeout", "retries", "start_period"} <= set(health)
        assert service["restart"] == "unless-stopped"
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert service["user"].split(":")[0] not in ("", "0", "root")
        assert "privileged" not in service and service["cap_drop"] == ["ALL"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_each_waits_for_services_that_say_that_they_are_well(self, name: str) -> None:
        for other, wait in SERVICES[name].get("depends_on", {}).items():
            assert wait["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[other]

    @pytest.mark.parametrize("name", CLI)
    def test_each_command_is_one_of_the_command_line(self, name: str) -> None:
        command, options = parsed(SERVICES[name])
        assert command == {"api": "serve"}.get(
            name, "teacher serve" if "teacher" in name else "worker"
        )
        if command == "worker":
            assert options["pool"] in POOLS
            assert options["pool"] == ("gpu" if "trainer" in name else "cpu")
            assert str(options["health_port"]) in ports_of(SERVICES[name])
        else:
            assert options["host"] == "0.0.0.0"
            assert str(options["port"]) in ports_of(SERVICES[name])

    def test_the_server_is_a_command_of_prefect(self) -> None:
        (script,) = SERVICES["prefect-server"]["command"]
        assert SERVICES["prefect-server"]["entrypoint"] == ["sh", "-euc"]
        subprocess.run(["sh", "-nc", script], check=True)
        (line,) = [line for line in script.splitlines() if line.startswith("exec prefect ")]
        from prefect.cli.server import server_app

        _, bound, _ = server_app.parse_args(line.split()[3:], exit_on_error=False)
        assert bound.arguments == {"host": "0.0.0.0", "port": 4200}

    def test_the_database_is_of_the_version_that_is_tested(self) -> None:
        _, _, tag = SERVICES["postgres"]["image"].partition(":")
        assert re.fullmatch(r"\d+\.\d+-\w+", tag)
        assert tag.split(".")[0] == postgres_version().split(".")[0]


class TestPlaces:
    @pytest.mark.parametrize("name", SERVICES)
    def test_every_address_is_a_services_port(self, name: str) -> None:
        reached = {host: ports_of(service) for other, service in SERVICES.items()
                   for host in names_of(other, service)}  # fmt: skip
        found = ADDRESS.findall(told(SERVICES[name]))
        assert found or name == "postgres"
        for host, port in found:
            assert port in (ports_of(SERVICES[name]) if host == "127.0.0.1" else reached[host])

    @pytest.mark.parametrize("name", SERVICES)
    def test_only_loopback_is_published(self, name: str) -> None:
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))

    def test_every_volume_is_declared_used_and_the_users(self) -> None:
        mounted = [(name, *volume.split(":")[:2]) for name, service in SERVICES.items()
                   for volume in service["volumes"]]  # fmt: skip
        named = {source for _, source, _ in mounted if not source.startswith("./")}
        assert named == set(COMPOSE["volumes"])
        for name, source, place in mounted:
            if source in named and name in OURS:
                _, _, folders = image_of(SERVICES[name]["build"]["target"])
                assert place in folders
        assert {f"{place}" for _, source, place in mounted if source not in named} == {"/models"}

    def test_where_settings_point_there_is_a_mount(self) -> None:
        for name in OURS:
            service = SERVICES[name]
            image, _, _ = image_of(service["build"]["target"])
            environment = {**image, **service["environment"]}
            mounted = {volume.split(":")[1] for volume in service["volumes"]}
            mounted |= {f"/run/secrets/{secret}" for secret in service.get("secrets", [])}
            mounted |= {config["target"] for config in service.get("configs", [])}
            keys = ["EVOLOOM_CONFIG", *(key for key in environment if key.endswith("_FILE"))]
            if name not in ("prefect-server", "teacher", "teacher-cpu"):
                keys.append("EVOLOOM_STORE__PATH")
            if "trainer" in name or "teacher" in name:
                keys.append("EVOLOOM_ENGINE__CACHE_DIR")
            for key in keys:
                place = str(environment.get(key, ""))
                assert not place or {place, str(Path(place).parent)} & mounted, (name, key)

    def test_every_secret_and_config_is_declared_and_used(self) -> None:
        used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
        assert used == set(COMPOSE["secrets"])
        sources = {config["source"] for service in SERVICES.values()
                   for config in service.get("configs", [])}  # fmt: skip
        assert sources == set(COMPOSE["configs"])
        for config in COMPOSE["configs"].values():
            assert Path(config["file"]).is_file()

    def test_every_variable_is_in_the_example(self, checkout: Path) -> None:
        example = dict(
            re.findall(r"^(\w+)=(.*)$", (checkout / ".env.example").read_text(), re.MULTILINE)
        )
        used = variables_of((checkout / "docker-compose.yml").read_text())
        assert set(example) == used | {"COMPOSE_PROFILES"}
        assert example["COMPOSE_PROFILES"] == "gpu"
        # What it says is what holds without it, but for the profile `cpu`'s own limits.
        filled = read_compose(example)
        for name in services_of(COMPOSE, "gpu"):
            assert filled["services"][name] == SERVICES[name]


class TestVariables:
    def test_every_evoloom_variable_is_a_setting(self) -> None:
        names = set()
        for name in OURS:
            image, _, _ = image_of(SERVICES[name]["build"]["target"])
            names |= {*image, *SERVICES[name]["environment"]}
        settings = {name for name in names if name.startswith("EVOLOOM_")}
        known = {f"EVOLOOM_{key.upper().replace('.', '__')}" for key in known_keys()}
        known |= {f"EVOLOOM_{key.upper().replace('.', '__')}_FILE" for key in SECRET_KEYS}
        assert settings - known == {"EVOLOOM_CONFIG"}

    @pytest.mark.parametrize("name", CLI)
    def test_the_settings_of_each_service_resolve(
        self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkout: Path
    ) -> None:
        clean(monkeypatch, tmp_path)
        subprocess.run(["sh", checkout / "scripts" / "make-secrets.sh", tmp_path / "s"], check=True)
        service = SERVICES[name]
        for key, value in service["environment"].items():
            value = value.replace("/run/secrets", str(tmp_path / "s"))
            if key == "EVOLOOM_CONFIG":
                (config,) = service["configs"]
                value = str(checkout / COMPOSE["configs"][config["source"]]["file"])
            if key.startswith("EVOLOOM_"):
                monkeypatch.setenv(key, value)
        settings = load_settings()
        assert (settings.teacher.api_key is not None) == (
            "teacher_key" in service.get("secrets", [])
        )
        assert (settings.api.admin_key is not None) == (name == "api")

    def test_every_variable_of_prefect_is_a_setting_of_it(self) -> None:
        from prefect.settings.models.root import Settings

        known = _environment_names(Settings)
        script = SERVICES["prefect-server"]["command"][0]
        names = {key for service in SERVICES.values() for key in service["environment"]}
        names |= set(re.findall(r"\b(PREFECT_\w+)=", script))
        ours = {name for name in names if name.startswith("PREFECT_")}
        assert "PREFECT_SERVER_DATABASE_PASSWORD" in ours
        assert ours <= known

    def test_prefect_puts_the_password_into_the_address_of_its_database(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from prefect.settings.models.root import Settings

        url = SERVICES["prefect-server"]["environment"]["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
        monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", url)
        monkeypatch.setenv("PREFECT_SERVER_DATABASE_PASSWORD", "s3cret")
        resolved = Settings().server.database.connection_url
        assert resolved is not None
        assert (
            resolved.get_secret_value()
            == "postgresql+asyncpg://prefect:s3cret@postgres:5432/prefect"
        )


def _environment_names(model: Any) -> set[str]:
    names = set()
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            names |= _environment_names(field.annotation)
        aliases = field.validation_alias.choices if field.validation_alias else [name]
        prefix = model.model_config["env_prefix"]
        names |= {f"{prefix}{name}".upper(), *(str(alias).upper() for alias in aliases)}
    return names


class TestDockerfile:
    def test_every_build_target_is_a_stage(self, dockerfile: str) -> None:
        stages = set(re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE))
        targets = {SERVICES[name]["build"]["target"] for name in OURS}
        assert targets <= stages
        assert targets == {"cpu", "gpu"}
        assert {SERVICES[name]["image"] for name in OURS} == {"evoloom:cpu", "evoloom:gpu"}

    def test_the_user_is_that_of_the_services(self, dockerfile: str) -> None:
        (number,) = re.findall(r"useradd .*--uid (\d+) evoloom", dockerfile)
        assert {SERVICES[name]["user"] for name in OURS} == {f"{number}:{number}"}
        for target in ("cpu", "gpu"):
            stage = dockerfile.split(f" AS {target}\n")[1].split("\nFROM ")[0]
            assert stage.split("ENTRYPOINT")[0].rstrip().split("\n")[-2] == "USER evoloom"
            assert image_of(target)[1] == ["evoloom"]

    def test_health_is_asked_with_what_is_in_the_image(self) -> None:
        for name, service in SERVICES.items():
            program = service["healthcheck"]["test"][1]
            assert program == ("python" if name in OURS else "pg_isready")

    def test_what_the_dockerfile_copies_is_there_and_sent(
        self, checkout: Path, dockerfile: str
    ) -> None:
        sent = (checkout / ".dockerignore").read_text().split()
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
            for source in line.split()[:-1]:
                assert (checkout / source).exists(), source
                assert f"!{source.split('/')[0]}" in sent

    def test_the_image_holds_every_package_of_the_wheel(self, dockerfile: str) -> None:
        copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
        assert copied == {"pipeline", "flows", "store", "api", "prompts", "seeds"}

    def test_the_locked_packages_have_the_driver_of_the_database(self, checkout: Path) -> None:
        for target in ("cpu", "gpu"):
            assert "\nasyncpg==" in (checkout / "requirements" / f"{target}.txt").read_text()


class TestSecrets:
    def test_they_are_made_once_and_can_be_used(self, tmp_path: Path, checkout: Path) -> None:
        folder = tmp_path / "secrets"
        make = ["sh", str(checkout / "scripts" / "make-secrets.sh"), str(folder)]
        subprocess.run(make, check=True)
        first = {path.name: path.read_text() for path in folder.iterdir()}
        assert set(first) == set(COMPOSE["secrets"])
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}
        (folder / "teacher_key").unlink()
        subprocess.run(make, check=True)
        second = {path.name: path.read_text() for path in folder.iterdir()}
        assert {name for name in first if first[name] != second[name]} == {"teacher_key"}
        with ServiceDatabase(tmp_path / "evoloom.duckdb") as database:
            set_admin_key(database, first["api_admin_key"])

    def test_none_can_be_committed_or_sent(self, checkout: Path) -> None:
        ignored = (checkout / ".gitignore").read_text().split()
        assert {"/secrets/", "/.env"} <= set(ignored)
        assert (checkout / ".dockerignore").read_text().split()[0] == "*"
