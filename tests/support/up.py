"""`evoloom up` as a process, to ask, to kill and to start again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import psutil

from pipeline.errors import EvoloomError
from store.run_directory import read_state, runs_directory
from tests.support import runs
from tests.support.prefect_server import wait_until
from tests.support.teachers import ROOT, TeacherProcess


class Up:
    """`evoloom up` for a store, and what it has started."""

    def __init__(self, store: Path, *arguments: str) -> None:
        self.store = store
        self.state = store.with_name(f"{store.name}.up")
        self.printed = store.with_name("up.printed")
        self._arguments = ["--port", "0", "--prefect-port", "0", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until all is healthy."""
        with self.printed.open("wb") as printed:
            self._process = subprocess.Popen(
                runs.command("up", "--store", self.store, *self._arguments), cwd=ROOT,
                env=self.environment(), stdin=subprocess.DEVNULL, stdout=printed, stderr=printed,
                start_new_session=True,
            )  # fmt: skip
        wait_until(self._is_up, "everything is up")

    def _is_up(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.printed.read_text() + self.logs()
        status = self.status()
        return status["pid"] == self.pid and self.is_healthy()

    def start_detached(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Have it go on in the background; returns what the command said."""
        return self.evoloom("up", "--detach", *self._arguments, *arguments)

    def environment(self) -> dict[str, str]:
        """An environment without a Prefect of the user's, nor settings."""
        kept = {key: value for key, value in os.environ.items()
                if not key.startswith(("PREFECT", "EVOLOOM"))}  # fmt: skip
        return {**kept, "PREFECT_HOME": str(self.store.with_name("no-prefect"))}

    def evoloom(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run another command about the same store."""
        return subprocess.run(
            runs.command(*arguments, "--store", self.store), cwd=ROOT, env=self.environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def status(self) -> dict[str, Any]:
        """What the supervisor last said, as `up --status --json` prints it."""
        try:
            value: dict[str, Any] = json.loads((self.state / "status.json").read_text())
        except FileNotFoundError:
            return {"state": "starting", "pid": 0, "services": [], "addresses": {}}
        return value

    def is_healthy(self) -> bool:
        """Whether all services are."""
        status = self.status()
        return status["state"] == "up" and all(
            row["state"] == "healthy" for row in status["services"]
        )

    def service(self, name: str) -> dict[str, Any]:
        """One service's status."""
        return next(row for row in self.status()["services"] if row["name"] == name)

    def kill_service(self, name: str) -> None:
        """SIGKILL to a service, once there is one: it may be between two lives. Then wait until the
        supervisor has noticed."""
        wait_until(lambda: self.service(name)["pid"] is not None, f"{name} lives")
        before = self.service(name)
        os.kill(before["pid"], signal.SIGKILL)
        wait_until(lambda: self.service(name)["restarts"] > before["restarts"], f"{name} is missed")

    def kill(self) -> None:
        """SIGKILL to the supervisor."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_everything(self) -> None:
        """SIGKILL to the supervisor and all that it has started, as when a machine goes down."""
        self.kill()
        while left := self.processes():
            for process in left:
                process.kill()
            psutil.wait_procs(left, 10)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        return self._process.wait(120)

    def processes(self) -> list[psutil.Process]:
        """The living processes whose environment or command line carries the state's folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                    continue
                if str(self.state) in repr((process.environ(), process.cmdline())):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def log(self, name: str) -> str:
        """What a service has printed."""
        return (self.state / "logs" / f"{name}.log").read_text()

    def logs(self) -> str:
        """All its logs, for a test that fails."""
        paths = sorted((self.state / "logs").glob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in paths)

    def clean(self) -> None:
        """Leave nothing."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for process in self.processes():
            process.kill()

    def ask_for_run(self, teacher: TeacherProcess, run_id: str, **teacher_settings: Any) -> str:
        """Have Prefect schedule the run that `runs.start` starts; returns the flow run's id. Its
        store is what the worker has been told by `up`."""
        quick = {key.partition(".")[2]: value for key, value in runs.QUICK.items()
                 if key.startswith("teacher.")}  # fmt: skip
        return self._schedule(run_id, {
            "run": {"target": runs.TARGET, "seed": runs.SEED, "progress_interval_s": 0.2},
            "teacher": {"base_url": teacher.url, **quick, **teacher_settings},
            "store": {"analyse": False},
        })  # fmt: skip

    def ask_for_bundled_run(self, run_id: str, target: int) -> str:
        """Have Prefect schedule a run with nothing else configured."""
        return self._schedule(run_id, {"run": {"target": target, "seed": runs.SEED}})

    def _schedule(self, run_id: str, settings: dict[str, Any]) -> str:
        url = self.status()["addresses"]["prefect"]
        deployment = _ask("GET", f"{url}/deployments/name/self-instruct/cpu")
        flow_run = _ask(
            "POST", f"{url}/deployments/{deployment['id']}/create_flow_run",
            {"parameters": {"settings": settings, "run_id": run_id}, "idempotency_key": run_id},
        )  # fmt: skip
        return str(flow_run["id"])

    def answers(self, run_id: str) -> int:
        """How many answers a run has in its journal."""
        try:
            return len(runs.journal_of(self.store, run_id))
        except (OSError, EvoloomError):  # there is no run yet
            return 0

    def flow_run_state(self, flow_run_id: str) -> str:
        """The type of a flow run's state; '' while the server is away."""
        url = self.status()["addresses"]["prefect"]
        try:
            return str(_json(httpx.get(f"{url}/flow_runs/{flow_run_id}"))["state_type"])
        except httpx.HTTPError:
            return ""

    def run_state(self, run_id: str) -> str:
        """The state of a run, 'none' before there is a run directory."""
        run_dir = runs_directory(self.store) / run_id
        return read_state(run_dir).state if run_dir.exists() else "none"

    def run_process(self, run_id: str) -> int:
        """The process that executes a run: what writes to its run directory and to the store."""
        return int((runs_directory(self.store) / f"{run_id}.flow" / "lock").read_text())


def _json(response: httpx.Response) -> Any:
    return response.raise_for_status().json()


def _ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    """Ask Prefect's API; again where its database is busy, as Prefect's own client does."""
    while True:
        response = httpx.request(method, url, json=body, timeout=60)
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return _json(response)
        time.sleep(1.0)
