"""Starts services of docker-compose.yml as processes of this machine, where there is no Docker engine.

What a container would have and a process has not is mapped, and nothing else: a volume, a secret and a
config file are paths below a folder, a service's name is 127.0.0.1, its port a free one. Command,
environment, health check and order are the file's own, together with what the Dockerfile sets. Not
mapped: users, limits, and the network. PostgreSQL's image is Debian's PostgreSQL (`postgres`).
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import psutil
import yaml  # type: ignore[import-untyped]

from tests.support.postgres import PostgresCluster
from tests.support.prefect_server import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?::-([^}]*))?\})")
_MARK = "COMPOSE_TEST_SERVICE"
_LOOK_EVERY_S = 1.0
_STOP_S = 120.0

Service = dict[str, Any]


def read_compose(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The compose file with its variables replaced by what they are set to, or their defaults."""
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    values: dict[str, Any] = _interpolate(yaml.safe_load(text), variables or {})
    return values


def _interpolate(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolate(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_interpolate(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        # `:-` is the default of a variable that is empty, too.
        return variables.get(match[1]) or match[2] or ""

    return _VARIABLE.sub(replace, value)


def variables_of(text: str) -> set[str]:
    """The variables that a compose file is filled in from."""
    return {match[1] for match in _VARIABLE.finditer(text) if match[1] is not None}


def services_of(compose: Mapping[str, Any], profile: str) -> dict[str, Service]:
    """The services of a profile, each after those that it waits for."""
    chosen = {name: service for name, service in compose["services"].items()
              if profile in service.get("profiles", [profile])}  # fmt: skip
    ordered: dict[str, Service] = {}

    def add(name: str) -> None:
        waits = chosen[name].get("depends_on", {})
        for other, how in waits.items():
            if other in chosen:
                add(other)
            else:
                assert how.get("required") is False, f"{name} waits for {other}, which is not there"
        ordered.setdefault(name, chosen[name])

    for name in chosen:
        add(name)
    return ordered


def ports_of(service: Service) -> list[str]:
    """The ports of a service inside its container."""
    return [str(port).rsplit(":", 1)[-1] for port in [*service.get("expose", []),
                                                      *service.get("ports", [])]]  # fmt: skip


def names_of(name: str, service: Service) -> list[str]:
    """The names by which others reach a service."""
    return [name, *service.get("networks", {}).get("default", {}).get("aliases", [])]


def image_of(target: str) -> tuple[dict[str, str], list[str], list[str]]:
    """What the Dockerfile sets for a target: environment, entrypoint, and the user's folders."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    form = re.compile(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", re.MULTILINE | re.DOTALL)
    stages = {name: (base, body) for base, name, body in form.findall(text)}
    environment: dict[str, str] = {}
    entrypoint: list[str] = []
    folders: list[str] = []
    chain = [target]
    while (base := stages[chain[0]][0]) in stages:
        chain.insert(0, base)
    for name in chain:
        for line in stages[name][1].splitlines():
            if line.startswith("ENV "):
                environment |= dict(part.split("=", 1) for part in shlex.split(line[4:]))
            elif line.startswith("ENTRYPOINT "):
                entrypoint = yaml.safe_load(line.removeprefix("ENTRYPOINT "))
            if made := re.search(r"install -d -o evoloom -g evoloom ([^&]+)", line):
                folders += made[1].split()
    return environment, entrypoint, folders


class Places:
    """Where the paths, names and ports that the services speak of are on this machine."""

    def __init__(self, compose: Mapping[str, Any], services: Mapping[str, Service], folder: Path):
        self._compose = compose
        self._services = services
        self._folder = folder
        self.ports = {(name, port): _free_port() for name, service in services.items()
                      for port in ports_of(service)}  # fmt: skip

    def text(self, name: str, text: str) -> str:
        """What a service is told, as a process is to be told it."""
        for other, service in self._services.items():
            for host in names_of(other, service):
                for port in ports_of(service):
                    here = f"127.0.0.1:{self.ports[other, port]}"
                    text = re.sub(rf"(?<![\w.-]){re.escape(host)}:{port}(?!\d)", here, text)
        for port in ports_of(self._services[name]):
            text = re.sub(rf"(?<!\d){port}(?!\d)", str(self.ports[name, port]), text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        for place, path in sorted(self.paths(name).items(), reverse=True):
            text = re.sub(rf"(?<![\w./-]){re.escape(place)}(?![\w.-])", str(path), text)
        return text

    def paths(self, name: str) -> dict[str, Path]:
        """Path in the container to path on this machine."""
        service = self._services[name]
        paths: dict[str, Path] = {}
        if "build" in service:  # folders of the image are a container's own until mounted over
            _, _, folders = image_of(service["build"]["target"])
            paths = {place: self._folder / "containers" / name / place[1:] for place in folders}
        for volume in service.get("volumes", []):
            source, place = volume.split(":")[:2]
            is_named = source in self._compose["volumes"]
            paths[place] = self._folder / "volumes" / source if is_named else ROOT / source
        for secret in service.get("secrets", []):
            paths[f"/run/secrets/{secret}"] = ROOT / self._compose["secrets"][secret]["file"]
        for config in service.get("configs", []):
            paths[config["target"]] = ROOT / self._compose["configs"][config["source"]]["file"]
        return paths

    def make_folders(self, name: str) -> None:
        """Make a service's volumes and folders, as Docker does."""
        for path in self.paths(name).values():
            if path.is_relative_to(self._folder) and not path.exists():
                path.mkdir(parents=True, exist_ok=True)


class ComposeProcesses:
    """The services of a profile, each a process that is started and stopped as its container is."""

    def __init__(
        self, profile: str, folder: Path, variables: Mapping[str, str] | None = None
    ) -> None:
        """
        Args:
            folder: for volumes and logs.
            variables: as a file `.env` has them.
        """
        self.compose = read_compose(variables)
        self.services = services_of(self.compose, profile)
        self.places = Places(self.compose, self.services, folder)
        self._folder = folder
        self._mark = token_hex(8)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.clusters: list[PostgresCluster] = []
        self.started: list[str] = []
        """Names of the services in the order in which they became healthy."""
        self._replaced: set[str] = set()

    def url(self, name: str) -> str:
        """Where a service with one port answers."""
        (port,) = ports_of(self.services[name])
        return f"http://127.0.0.1:{self.places.ports[name, port]}"

    def log(self, name: str) -> Path:
        """Standard output and error of a service."""
        return self._folder / f"{name}.log"

    def secret(self, name: str) -> str:
        """What is in a secret's file."""
        path: str = self.compose["secrets"][name]["file"]
        return (ROOT / path).read_text().strip()

    def path(self, name: str, place: str) -> Path:
        """Where a path of a service's container is on this machine."""
        return Path(self.places.text(name, place))

    def replace(self, name: str, port: int) -> None:
        """Have something else that listens on a port stand where a service would."""
        (own,) = ports_of(self.services[name])
        self.places.ports[name, own] = port
        self._replaced.add(name)

    def up(self, *names: str) -> None:
        """Start these services, and before each those that it waits for until they are healthy."""
        for name in names:
            waits = [other for other in self.services[name].get("depends_on", {})
                     if other in self.services]  # fmt: skip
            self.up(*waits)
            if name not in self._processes and name not in self._replaced:
                self._start(name)
                self._await_health(name)
                self.started.append(name)

    def environment(self, name: str) -> dict[str, str]:
        """A service's environment: the image's, over it the compose file's."""
        service = self.services[name]
        image: dict[str, str] = {}
        if "build" in service:
            image, _, _ = image_of(service["build"]["target"])
        image.pop("PATH", None)  # the image's own; below stands where its programs are here
        told = {**image, **{key: str(value) for key, value in service["environment"].items()}}
        home = self._folder / "containers" / name / "home"
        home.mkdir(parents=True, exist_ok=True)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", _MARK: f"{self._mark}/{name}",
                **{key: self.places.text(name, value) for key, value in told.items()}}  # fmt: skip

    def command(self, name: str) -> list[str]:
        """Entrypoint and command of a service."""
        service = self.services[name]
        _, entrypoint, _ = image_of(service["build"]["target"])
        words = [*service.get("entrypoint", entrypoint), *service["command"]]
        return [self.places.text(name, word) for word in words]

    def _start(self, name: str) -> None:
        self.places.make_folders(name)
        command = self._make_cluster(name) if name == "postgres" else self.command(name)
        with self.log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env=self.environment(name), cwd=self._home_of(name),
            )  # fmt: skip

    def _make_cluster(self, name: str) -> list[str]:
        environment = self.environment(name)
        cluster = PostgresCluster(
            user=environment["POSTGRES_USER"],
            database=environment["POSTGRES_DB"],
            password=Path(environment["POSTGRES_PASSWORD_FILE"]).read_text().strip(),
        )
        self.clusters.append(cluster)
        (port,) = ports_of(self.services[name])
        return cluster.command(self.places.ports[name, port])

    def _home_of(self, name: str) -> Path:
        place = self.path(name, "/data")  # the images' WORKDIR
        return place if place.is_dir() else self._folder

    def is_healthy(self, name: str) -> bool:
        """Whether a service's own health check says so now."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        done = subprocess.run(
            [self.places.text(name, word) for word in words], env=self.environment(name),
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode == 0

    def _await_health(self, name: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_healthy(name):
            code = self._processes[name].poll()
            assert code is None, f"{name} ended with {code}: {self.tail(name)}"
            assert time.monotonic() < deadline, f"{name} is not healthy: {self.tail(name)}"
            time.sleep(_LOOK_EVERY_S)

    def tail(self, name: str) -> str:
        """The end of a service's log."""
        return self.log(name).read_text("utf-8", "replace")[-4000:]

    def stop(self, name: str) -> int:
        """As `docker stop`: SIGTERM to the first process; when it has ended, all others are killed."""
        process = self._processes.pop(name)
        # PostgreSQL's image asks for SIGINT: SIGTERM would wait for all who are connected.
        process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        try:
            code = process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        for left in self.left(name):
            with suppress(psutil.Error):
                left.kill()
        return code

    def down(self) -> dict[str, int]:
        """Stop all, the last started first; their exit codes."""
        codes = {name: self.stop(name) for name in reversed(list(self._processes))}
        for cluster in self.clusters:
            cluster.remove()
        return codes

    def left(self, name: str = "") -> list[psutil.Process]:
        """The processes that are there of a service, or of all."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_MARK, "").startswith(f"{self._mark}/{name}"):
                    found.append(process)
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
