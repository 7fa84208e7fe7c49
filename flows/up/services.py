"""Which services `evoloom up` runs, how they are started, and how each shows that it is well."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import flows
from flows.up.place import Place
from flows.up.prefect_api import PrefectApi
from flows.up.service import Life, Service
from flows.up.teacher import answers
from pipeline.config import Settings
from pipeline.teacher.processes import UP_MARK

WORKER_STALE_S = 60.0
_HEARTBEAT_S = 10
_STEWARD_STALE_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to run."""

    place: Place
    settings: Settings
    environment: Mapping[str, str]
    """The settings that were given to `up`, as variables for everything it starts."""
    prefect_url: str
    prefect_port: int | None
    """None: the server is the user's."""
    api_port: int
    pools: tuple[str, ...]
    limit: int
    """Flow runs at once in each pool."""
    has_teacher: bool
    """Whether the local engine is kept running."""

    @property
    def api_url(self) -> str:
        """Where the API answers."""
        host = self.settings.api.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  any address
        return f"http://{f'[{shown}]' if ':' in shown else shown}:{self.api_port}"

    def addresses(self) -> dict[str, str]:
        """What answers where."""
        teacher = self.settings.teacher.base_url
        found = {
            "dashboard": f"{self.api_url}/",
            "api": f"{self.api_url}/v1",
            "prefect": self.prefect_url,
        }
        return {**found, **({"teacher": teacher} if teacher else {})}


def services_of(plan: Plan) -> list[Service]:
    """The services, in the order in which they are started."""
    own_server = [_prefect(plan)] if plan.prefect_port is not None else []
    needs = ("prefect",) if own_server else ()
    return [
        *own_server,
        *(_worker(plan, pool, needs) for pool in plan.pools),
        _steward(plan, needs),
        *([_teacher(plan)] if plan.has_teacher else []),
        _api(plan, needs),
    ]


def _prefect(plan: Plan) -> Service:
    api = PrefectApi(plan.prefect_url)
    environment = {
        # The settings of runs, keys among them, are nothing to the server.
        **{key: value for key, value in os.environ.items()
           if not key.startswith(("EVOLOOM_", "PREFECT_API_URL"))},
        UP_MARK: plan.place.mark,
        "PREFECT_HOME": str(plan.place.prefect_home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }  # fmt: skip
    argv = (sys.executable, "-P", "-m", "prefect", "server", "start",
            "--host", "127.0.0.1", "--port", str(plan.prefect_port))  # fmt: skip
    return Service("prefect", argv, environment, lambda life: api.is_healthy())


def _worker(plan: Plan, pool: str, needs: tuple[str, ...]) -> Service:
    name = f"up-{os.uname().nodename}-{plan.place.path.name}-{pool}"
    argv = _module("flows.cli", "worker", "--pool", pool, "--name", name, "--limit", plan.limit)
    environment = {**_environment(plan), "PREFECT_WORKER_HEARTBEAT_SECONDS": str(_HEARTBEAT_S)}
    return Service(
        f"worker-{pool}", argv, environment, _beats(plan.prefect_url, pool, name), needs,
        grace_s=plan.settings.run.grace_s + 30.0,
    )  # fmt: skip


def _beats(url: str, pool: str, name: str) -> Callable[[Life], bool | None]:
    """Whether a worker is heard of at its server. Only changes are looked at: the server's clock may
    be another than ours."""
    api = PrefectApi(url)
    last: dict[str, Any] = {"life": None, "beat": None, "at": None}

    def is_healthy(life: Life) -> bool | None:
        try:
            beat = api.last_heartbeat(pool, name)
        except httpx.HTTPError:
            return None
        if last["life"] != life:  # what is there is its predecessor's
            last.update(life=life, beat=beat, at=None)
        elif beat != last["beat"]:
            last.update(beat=beat, at=time.monotonic())
        return last["at"] is not None and time.monotonic() - last["at"] < WORKER_STALE_S

    return is_healthy


def _steward(plan: Plan, needs: tuple[str, ...]) -> Service:
    path = plan.place.steward

    def is_healthy(life: Life) -> bool:
        looked = path.stat().st_mtime if path.exists() else 0.0
        return looked > life.began and time.time() - looked < _STEWARD_STALE_S

    argv = _module("flows.up.steward", plan.place.path, plan.settings.store.path, plan.prefect_url)
    return Service("steward", argv, _environment(plan), is_healthy, needs)


def _teacher(plan: Plan) -> Service:
    path = plan.place.teacher

    def is_healthy(life: Life) -> bool:
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):
            return False
        return told["pid"] == life.pid and answers(told["base_url"])

    return Service(
        "teacher", _module("flows.up.teacher", plan.place.path), _environment(plan), is_healthy,
        start_limit_s=plan.settings.engine.start_timeout_s + 60.0,
        # It ends by itself when its engine hangs.
        patience_s=300.0,
    )  # fmt: skip


def _api(plan: Plan, needs: tuple[str, ...]) -> Service:
    argv = _module("flows.cli", "serve", "--port", plan.api_port)

    def is_healthy(life: Life) -> bool:
        try:
            return httpx.get(f"{plan.api_url}/v1/health", timeout=5.0).is_success
        except (httpx.HTTPError, httpx.InvalidURL):
            return False

    return Service(
        "api", argv, _environment(plan), is_healthy, needs,
        grace_s=plan.settings.api.grace_s + 20.0,
    )  # fmt: skip


def _environment(plan: Plan) -> dict[str, str]:
    home = {} if plan.prefect_port is None else {"PREFECT_HOME": str(plan.place.prefect_home)}
    return {
        # The workers are ours, and the API needs none of its own.
        **os.environ, **plan.environment, **home, "EVOLOOM_API__WORKER": "false",
        "PREFECT_API_URL": plan.prefect_url, "DO_NOT_TRACK": "1", UP_MARK: plan.place.mark,
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def _module(name: str, *arguments: object) -> tuple[str, ...]:
    # -P: a folder `flows` in the working directory, which Prefect users have, is not ours.
    root = str(Path(flows.__file__).resolve().parents[1])
    start = (
        f"import sys; sys.path.append(sys.argv.pop()); from {name} import main; sys.exit(main())"
    )
    return (sys.executable, "-P", "-c", start, *map(str, arguments), root)
