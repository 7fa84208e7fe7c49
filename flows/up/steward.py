"""The service that looks after runs which nobody executes any more.

    python -m flows.up.steward STATE STORE PREFECT_API_URL

A run's process that is killed is started again by its flow. Where the flow was killed as well, or the
machine went down, the run directory says 'running' and nobody holds its lock: the flow run is scheduled
again, and resumes the run. And a flow run that Prefect takes for running, whose process is gone and
whose run has ended, is given its end.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from flows import logs
from flows.following import is_locked
from flows.nightly import record_path
from flows.up.place import Place
from flows.up.prefect_api import PrefectApi, parse_time
from pipeline.errors import EvoloomError
from pipeline.teacher.processes import FLOW_RUN, find_marked
from store.run_directory import read_state, runs_directory
from store.run_writer import is_held

LOOK_EVERY_S = 5.0
ABANDONED_AFTER_S = 15.0
"""How long nobody may have had a run: between the end of one process and the start of the next there
is a moment."""
_MOST_AN_HOUR = 10
_NOT_AGAIN_S = 20.0
_PENDING_LIMIT_S = 120.0
_KILLED = re.compile(r"status code: -(?!2\b|15\b)\d")
"""In the message of a crash: a signal that is none by which a flow is told to end."""
_SUFFIX = ".flow"
_UNFINISHED = frozenset({"queued", "running", "paused"})


class Steward:
    """Looks after the runs of one store."""

    def __init__(self, api: PrefectApi, store_path: Path) -> None:
        self._api = api
        self._store_path = store_path.resolve()
        self._runs_dir = runs_directory(self._store_path)
        self._alone_since: dict[str, float] = {}
        self._settled: dict[str, int] = {}
        self._scheduled: dict[str, list[float]] = {}

    def look(self) -> None:
        """Look once.

        Raises:
            httpx.HTTPError: Prefect's server cannot be asked.
        """
        alone = list(self._abandoned())
        finished = list(self._unreported())
        lost = list(self._lost_nightlies())
        kept = {*alone, *(row["id"] for row in (*finished, *lost))}
        self._alone_since = {key: at for key, at in self._alone_since.items() if key in kept}
        for run_id in alone:
            if self._is_time(run_id):
                self._schedule_again(run_id)
        for row in finished:
            if self._is_time(row["id"]):
                self._report_end(row)
        for row in lost:
            if self._is_time(row["id"]):
                self._schedule(row, row["id"])

    def _is_time(self, key: str) -> bool:
        now = time.monotonic()
        return now - self._alone_since.setdefault(key, now) >= ABANDONED_AFTER_S

    def _abandoned(self) -> Iterator[str]:
        """Runs that a flow has begun, that have not ended, and that nobody has."""
        for lock in self._runs_dir.glob(f"*{_SUFFIX}/lock"):
            run_id = lock.parent.name.removesuffix(_SUFFIX)
            begun = lock.stat().st_mtime_ns
            if self._settled.get(run_id) == begun or is_locked(lock) or self._has_ended(run_id):
                continue
            if not is_held(self._runs_dir / run_id):
                yield run_id

    def _has_ended(self, run_id: str) -> bool:
        run_dir = self._runs_dir / run_id
        try:
            return run_dir.exists() and read_state(run_dir).state not in _UNFINISHED
        except EvoloomError:  # damaged: for people
            return True

    def _schedule_again(self, run_id: str) -> None:
        rows = [row for row in self._api.flow_runs(tags=["evoloom", f"run:{run_id}"])
                if self._is_ours(row)]  # fmt: skip
        row = next((row for row in rows if row["deployment_id"]), None)
        if row is None and rows:
            row = self._nightly_of(rows[0])
        if row is None or not is_to_go_on(row, has_run=(self._runs_dir / run_id).exists()):
            if row is None or row["state_type"] not in ("SCHEDULED", "PENDING", "RUNNING"):
                lock = self._runs_dir / f"{run_id}{_SUFFIX}" / "lock"
                self._settled[run_id] = lock.stat().st_mtime_ns
            return
        self._schedule(row, run_id)

    def _schedule(self, row: dict[str, Any], run_id: str) -> None:
        now = time.monotonic()
        recent = [at for at in self._scheduled.get(row["id"], ()) if now - at < 3600]
        is_just_done = bool(recent) and now - recent[-1] < _NOT_AGAIN_S  # on behalf of another run
        if is_just_done or len(recent) >= _MOST_AN_HOUR:
            return
        self._scheduled[row["id"]] = [*recent, now]
        self._alone_since.pop(run_id, None)
        _say(f"run {run_id} is executed by nobody; flow run {row['name']} is scheduled again")
        self._api.set_state(
            row["id"],
            {
                "type": "SCHEDULED",
                "name": "AwaitingRetry",
                "message": "its process was gone, and the run is not at its end",
                "state_details": {"scheduled_time": datetime.now(UTC).isoformat()},
            },
        )

    def _nightly_of(self, step: dict[str, Any]) -> dict[str, Any] | None:
        """The flow run whose step a subflow run is."""
        name = _tagged(step, "nightly:")
        if name is None:
            return None
        rows = self._api.flow_runs(tags=["evoloom", "nightly", f"run:{name}"])
        return next((row for row in rows if row["deployment_id"] and self._is_ours(row)), None)

    def _lost_nightlies(self) -> Iterator[dict[str, Any]]:
        """Nightlies whose process was killed, whatever has become of the step that it was at."""
        for row in self._api.flow_runs(tags=["evoloom", "nightly"], states=["RUNNING", "CRASHED"]):
            was_killed = row["state_type"] == "RUNNING" or _KILLED.search(
                row["state"]["message"] or ""
            )
            is_ours = row["deployment_id"] and self._is_ours(row) and self._is_known(row)
            if was_killed and is_ours and not _has_process(row["id"]):
                yield row

    def _is_known(self, row: dict[str, Any]) -> bool:
        """Whether a nightly has left its record here: another machine may have a store at this path
        too, and processes that are not seen from here."""
        run_id = _tagged(row, "run:")
        return run_id is not None and record_path(self._store_path, run_id).exists()

    def _unreported(self) -> Iterator[dict[str, Any]]:
        """Flow runs of workers that Prefect takes for running, and that nobody executes; their runs
        have ended."""
        for row in self._api.flow_runs(tags=["evoloom"], states=["RUNNING"]):
            run_id = _tagged(row, "run:")
            if run_id is None or not row["deployment_id"] or not self._is_ours(row):
                continue
            run_dir = self._runs_dir / run_id
            lock = run_dir.with_name(f"{run_id}{_SUFFIX}") / "lock"
            if run_dir.exists() and self._has_ended(run_id) and not is_locked(lock):
                if not is_held(run_dir) and not _has_process(row["id"]):
                    yield row

    def _report_end(self, row: dict[str, Any]) -> None:
        run_id = _tagged(row, "run:")
        state = read_state(self._runs_dir / str(run_id))
        kind = {"completed": "COMPLETED", "ceiling": "FAILED"}.get(state.state, "CRASHED")
        reason = f" ({state.reason})" if state.reason else ""
        _say(f"flow run {row['name']}: run {run_id} is {state.state}, which Prefect was not told")
        self._api.set_state(
            row["id"],
            {
                "type": kind,
                "message": f"the run is {state.state}{reason}; its flow had ended before",
            },
        )

    def _is_ours(self, row: dict[str, Any]) -> bool:
        settings = (row.get("parameters") or {}).get("settings") or {}
        path = (settings.get("store") or {}).get("path")
        return path is None or Path(path).resolve() == self._store_path


def is_to_go_on(row: dict[str, Any], *, has_run: bool) -> bool:
    """Whether a flow run is to be scheduled again whose run nobody executes."""
    kind = row["state_type"]
    if kind == "PENDING":  # a worker that took it and was killed before it began
        since = parse_time(row["state"]["timestamp"])
        is_late = (datetime.now(UTC) - since).total_seconds() > _PENDING_LIMIT_S
        return is_late and not _has_process(row["id"])
    if kind in ("RUNNING", "CRASHED") or (kind == "FAILED" and has_run):
        return not _has_process(row["id"])
    return False  # it waits to be started, was cancelled, or ended before there was a run


def _tagged(row: dict[str, Any], prefix: str) -> str | None:
    return next((tag.removeprefix(prefix) for tag in row["tags"] if tag.startswith(prefix)), None)


def _has_process(flow_run_id: str) -> bool:
    return bool(find_marked(flow_run_id, FLOW_RUN))


def _say(text: str) -> None:
    print(logs.stamped(text), flush=True)


def main() -> None:
    """Look again and again, until somebody ends this process."""
    place, store_path, url = Place(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
    steward = Steward(PrefectApi(url, timeout_s=30.0), store_path)
    problem = ""
    while True:
        try:
            steward.look()
            problem = ""
        except (httpx.HTTPError, OSError) as exc:
            if (text := f"{type(exc).__name__}: {exc}") != problem:
                _say(f"Prefect cannot be asked: {text}")
                problem = text
        place.steward.touch()
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
