"""Workers of a Prefect server's pools as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.prefect_server import PrefectServer, wait_until
from tests.support.teachers import ROOT


class Worker:
    """`evoloom worker` for a pool."""

    def __init__(
        self, server: PrefectServer, pool: str, folder: Path, limit: int = 1, **env: str
    ) -> None:
        self.server, self.pool = server, pool
        self.name = f"on-{pool}-{folder.name}"
        self.log = folder / f"{pool}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "worker", "--pool", pool, "--name", self.name,
                 "--limit", str(limit)],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **server.environment(), "PREFECT_WORKER_QUERY_SECONDS": "3",
                     **env},
            )  # fmt: skip

    def wait_until_polling(self) -> None:
        """Return when the server has heard of it."""
        wait_until(self._is_polling, f"the worker: {self.log.read_text()}")

    def _is_polling(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            workers = self.server.post(f"work_pools/{self.pool}/workers/filter", {})
        except httpx.HTTPStatusError:
            return False
        return any(worker["name"] == self.name for worker in workers)

    def stop(self) -> int:
        """Stop it with SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(90)
