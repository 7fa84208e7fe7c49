"""`evoloom serve` as a process, and clients of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from store.run_directory import runs_directory
from store.service.database import ServiceDatabase
from store.service.keys import Scope, create_key
from tests.support.runs import command
from tests.support.teachers import ROOT

ALL: tuple[Scope, ...] = ("submit", "read", "query", "admin")
WORDS = """amber birch comet delta ember fjord glade heron islet jasper kelp lotus maple nectar onyx
pearl quartz raven sable tulip umber violet willow xenon yarrow zephyr""".split()


class ServiceProcess:
    """A running service: its address, its log, its store."""

    def __init__(self, store: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.store = store
        self.log = store.with_name(f"{store.name}.service.log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command("serve", "--port", "0", "--store", store, *arguments),
                cwd=ROOT, env={**os.environ, "EVOLOOM_STORE__ANALYSE": "false", **(env or {})},
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving"), self.log.read_text()
        self.url = line.rsplit(" ", 1)[1].strip().removesuffix("/v1")

    def key(self, *scopes: Scope) -> str:
        """A new key's text."""
        with ServiceDatabase(self.store) as database:
            return create_key(database, scopes or ALL, "test")[1]

    def client(self, *scopes: Scope, key: str | None = None, **options: Any) -> httpx.Client:
        """A client with a key; by default one that may do everything."""
        text = key or self.key(*scopes)
        headers = {"Authorization": f"Bearer {text}", **options.pop("headers", {})}
        return httpx.Client(base_url=f"{self.url}/v1", headers=headers, timeout=120, **options)

    def anonymous(self, **options: Any) -> httpx.Client:
        """A client without a key."""
        return httpx.Client(base_url=f"{self.url}/v1", timeout=120, **options)

    def logged(self) -> list[dict[str, Any]]:
        """The lines of its log of requests."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"at"')]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; the runs that it has started go on."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.returncode


@contextmanager
def serving(
    store: Path, *arguments: str, env: dict[str, str] | None = None
) -> Iterator[ServiceProcess]:
    """A service for as long as the context lasts; run processes that are left are killed too."""
    service = ServiceProcess(store, *arguments, env=env)
    try:
        yield service
    finally:
        service.stop()
        kill_runs(store)


def kill_runs(store: Path) -> None:
    """End the run processes that a service of this store has left."""
    for lock in runs_directory(store).glob("*.flow/lock"):
        text = lock.read_text()
        if not text.isdigit():
            continue
        # One that has ended is NoSuchProcess, and so is one that nobody has reaped yet.
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(text))
            if any("order.json" in part for part in process.cmdline()):
                process.kill()


def settings(**values: Any) -> list[str]:
    """`--set` arguments; keywords are dotted settings with `__` for the dot."""
    pairs = [f"{key.replace('__', '.')}={value}" for key, value in values.items()]
    return [part for pair in pairs for part in ("--set", pair)]


def task(number: int, **fields: Any) -> dict[str, Any]:
    """A seed task that is like no other of these."""
    words = [WORDS[(number * step + step) % len(WORDS)] for step in (1, 3, 5, 7, 11)]
    text = f"{words[0].capitalize()}{number} the {words[1]}{number} with {words[2]}{number} and "
    return {
        "id": f"task_{number}",
        "name": f"name {number}",
        "instruction": f"{text}{words[3]}{number} under {words[4]}{number}.",
        "instances": [{"input": f"in {number}", "output": f"out {number}"}],
        "is_classification": number % 4 == 0,
        **fields,
    }


def wait_for(client: httpx.Client, run_id: str, *states: str, limit_s: float = 120) -> Any:
    """The run when it is in one of these states."""
    deadline = time.monotonic() + limit_s
    while True:
        run = client.get(f"/runs/{run_id}").raise_for_status().json()
        if run["state"] in states:
            return run
        assert time.monotonic() < deadline, run
        time.sleep(0.1)


def events(client: httpx.Client, run_id: str, **options: Any) -> Iterator[tuple[str, str, Any]]:
    """(event, id, data) of a run's stream, to its end."""
    with client.stream("GET", f"/runs/{run_id}/events", **options) as stream:
        stream.raise_for_status()
        event: dict[str, str] = {}
        for line in stream.iter_lines():
            if line:
                name, _, value = line.partition(":")
                event[name] = value.strip()
            elif "event" in event:
                yield event["event"], event.get("id", ""), json.loads(event["data"])
                event = {}
