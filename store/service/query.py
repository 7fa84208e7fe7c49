"""SQL for holders of that scope: each query in a process of its own (`store.service.query_worker`).

A process stands ready while it waits for its one query, so that nobody waits for Python to start.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import store
from pipeline.errors import UsageError
from store.snapshot import snapshot_link

_WORKER = (
    "import sys; sys.path.append(sys.argv.pop()); "
    "from store.service.query_worker import main; main()"
)
_KILL_AFTER_S = 3.0


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may take."""

    timeout_s: float
    max_rows: int
    max_bytes: int
    memory_mb: int
    at_once: int


class QueryError(Exception):
    """Raised when a query gave no result. `code` is query_refused, query_invalid, query_timeout,
    query_memory, query_too_large, query_busy or query_crashed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class QueryRunner:
    """Executes queries on a store's newest snapshot; may be used from several threads."""

    def __init__(self, store_path: Path, limits: QueryLimits) -> None:
        self._link = snapshot_link(store_path)
        self._limits = limits
        self._slots = threading.BoundedSemaphore(limits.at_once)
        self._lock = threading.Lock()
        self._spare: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def run(self, sql: str, max_rows: int | None = None) -> dict[str, Any]:
        """`columns` (name and type), `rows` and `truncated`.

        Raises:
            QueryError: it is refused, wrong, takes too much, or as many as may be are at work.
            UsageError: nothing has been published yet.
        """
        limits = self._limits
        path = self._link.resolve()
        if not path.exists():
            raise UsageError(f"{self._link}: no snapshot has been published yet")
        if not self._slots.acquire(blocking=False):
            raise QueryError("query_busy", f"{limits.at_once} queries are at work; try again")
        try:
            order = {
                "path": str(path),
                "sql": sql,
                "timeout_s": limits.timeout_s,
                "max_rows": min(max_rows or limits.max_rows, limits.max_rows),
                "max_bytes": limits.max_bytes,
                "memory_mb": limits.memory_mb,
            }
            answer = self._ask(json.dumps(order).encode() + b"\n")
        finally:
            self._slots.release()
        if "error" in answer:
            raise QueryError(answer["error"]["code"], answer["error"]["message"])
        return answer

    def close(self) -> None:
        """End the process that stands ready."""
        with self._lock:
            self._is_closed = True
            if self._spare is not None:
                self._spare.kill()
                self._spare.communicate()
                self._spare = None

    def _ask(self, order: bytes) -> dict[str, Any]:
        process = self._take()
        try:
            output, _ = process.communicate(order, self._limits.timeout_s + _KILL_AFTER_S)
        except subprocess.TimeoutExpired as exc:
            raise QueryError(
                "query_timeout", f"took longer than {self._limits.timeout_s:g} s and was killed"
            ) from exc
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
            self._prepare()
        try:
            answer: dict[str, Any] = json.loads(output)
        except ValueError as exc:
            raise QueryError(
                "query_crashed", "took more memory or time than a query may, and was killed"
            ) from exc
        return answer

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            process, self._spare = self._spare, None
        if process is not None and process.poll() is None:
            return process
        if process is not None:
            process.communicate()
        return _start()

    def _prepare(self) -> None:
        with self._lock:
            if self._spare is None and not self._is_closed:
                with contextlib.suppress(OSError):
                    self._spare = _start()


def _start() -> subprocess.Popen[bytes]:
    package_root = str(Path(store.__file__).resolve().parents[1])
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _WORKER, package_root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Nothing of the service's environment, the teacher's key least of all.
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        cwd="/",
    )
