"""A real Prefect server for tests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support import cli

PATIENCE_S = 600.0


class PrefectServer:
    """A Prefect server with a home of its own, to ask, to kill and to start again."""

    def __init__(self, home: Path) -> None:
        self._home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api"
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """What a process needs to talk to it, and to leave its user's home alone."""
        return {"PREFECT_API_URL": self.url, "PREFECT_HOME": str(self._home / "client"),
                "DO_NOT_TRACK": "1"}  # fmt: skip

    def start(self) -> None:
        """Start it, if it does not run."""
        if self._process is None:
            self._process = self._start()
        wait_until(self._answers, "the Prefect server")

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._home / "server.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "prefect", "server", "start", "--port", str(self.port)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, "PREFECT_HOME": str(self._home), "DO_NOT_TRACK": "1",
                     "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_UI_ENABLED": "false"},
            )  # fmt: skip

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._home / "server.log").read_text()
        try:
            return httpx.get(f"{self.url}/health").is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Ask its API; again, as Prefect's own client does, where its database is busy (503). It may
        wait for SQLite's lock longer than a client does: what only reads is then asked again."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = httpx.post(f"{self.url}/{path}", json=body, timeout=30)
            except httpx.ReadTimeout:
                if not path.endswith("/filter") or time.monotonic() > until:
                    raise
                continue
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > until:
                return answer.raise_for_status().json()
            time.sleep(1.0)

    def flow_runs(self, store: Path) -> list[dict[str, Any]]:
        """The flow runs that were started for a store, the first first."""
        body = {"sort": "START_TIME_ASC", "flow_runs": {"tags": {"all_": ["evoloom"]}}}
        path = str(store)
        return [run for run in self.post("flow_runs/filter", body)
                if run["parameters"]["settings"]["store"]["path"] == path]  # fmt: skip

    def execute(self, flow: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Call a flow (`module:function`) in a process of its own; the flow run, its run being done.

        Args:
            parameters: of the flow; `run_id` among them, which the flow has to return.
        """
        module, _, name = flow.partition(":")
        code = f"import json, sys; from {module} import {name}; print({name}(**json.loads(sys.argv[1])))"
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(parameters)],
            cwd=cli.ROOT, env=cli.environment(self.environment()), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        run_id = parameters["run_id"]
        assert (done.returncode, done.stdout.strip()) == (0, run_id), done.stderr
        (flow_run,) = (run for run in self.post("flow_runs/filter", {})
                       if run["parameters"].get("run_id") == run_id)  # fmt: skip
        value: dict[str, Any] = flow_run
        return value

    def of_flow_run(self, kind: str, flow_run: dict[str, Any]) -> list[dict[str, Any]]:
        """Task runs, artifacts or logs of a flow run."""
        chosen = {"id": {"any_": [flow_run["id"]]}}
        if kind == "logs":
            body: dict[str, Any] = {"logs": {"flow_run_id": {"any_": [flow_run["id"]]}}}
        else:
            body = {"flow_runs": chosen}
        found: list[dict[str, Any]] = self.post(f"{kind}/filter", body)
        return found


def wait_until(condition: Callable[[], Any], what: str, every_s: float = 0.02) -> None:
    """Return when something has happened. A Prefect server takes minutes to start where the cores
    have other things to do."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"it never came: {what}"
        time.sleep(every_s)


def set_environment(*pairs: str) -> None:
    """For a process that is forked from another's environment."""
    for pair in pairs:
        name, _, value = pair.partition("=")
        os.environ[name] = value
