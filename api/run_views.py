"""Runs as the service shows them: what the run directory says, and what was asked for."""

from __future__ import annotations

import threading

from api.models.runs import RunSummary
from api.service import Service
from pipeline.errors import EvoloomError
from store.service.reads import utc_text
from store.service.run_requests import RunRequest, list_requests
from store.service.runs_index import IndexedRun, is_at_work, last_progress
from store.service.statistics import accepted_counts

_AT_WORK = ("running", "paused")


class RunViews:
    """Makes summaries of runs; may be used from several threads."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._lock = threading.Lock()
        self._counted: tuple[str | None, dict[str, tuple[int, int]]] = (None, {})

    def all(self) -> list[RunSummary]:
        """Every run and every run that was asked for, the newest first."""
        requests = {request.run_id: request for request in list_requests(self._service.database)}
        _, runs = self._service.runs.all()
        counts = self.counts()
        found = [self.summary(run, requests.pop(run.run_id, None), counts) for run in runs]
        found += [of_request(request) for request in requests.values()]
        found.sort(key=lambda run: (run.created_at or "", run.run_id), reverse=True)
        return found

    def counts(self) -> dict[str, tuple[int, int]]:
        """(accepted, surplus) by run, as the newest snapshot has them; read once a snapshot."""
        version = self._service.reads.version()
        with self._lock:
            if version is not None and self._counted[0] != version:
                try:
                    self._counted = (version, accepted_counts(self._service.reads))
                except EvoloomError:
                    self._counted = (None, {})
            return self._counted[1]

    def summary(
        self, run: IndexedRun, request: RunRequest | None, counts: dict[str, tuple[int, int]]
    ) -> RunSummary:
        """A run that has a directory."""
        state, reason = self.state_of(run, request)
        accepted, surplus = counts.get(run.run_id, (None, None))
        if run.state in _AT_WORK or run.ingest_pending or accepted is None:
            record = last_progress(self._service.runs.path(run.run_id))
            if record is not None:
                accepted = record.get("accepted", accepted)
        return RunSummary(
            run_id=run.run_id,
            kind=run.kind,
            state=state,
            reason=reason,
            target=run.target,
            accepted=accepted,
            surplus=surplus,
            seed_set=request.seed_set if request else None,
            requested_by=request.requested_by if request else None,
            created_at=utc_text(run.created_at),
            started_at=utc_text(run.started_at),
            finished_at=utc_text(run.finished_at),
            elapsed_s=run.elapsed_s,
            ingest_pending=run.ingest_pending,
        )

    def state_of(self, run: IndexedRun, request: RunRequest | None) -> tuple[str, str | None]:
        """(state, reason): one that nobody executes any more does not run, whatever it wrote last."""
        if request is not None and request.state == "queued":
            return "queued", "to be resumed"
        if run.state in (*_AT_WORK, "queued") and not is_at_work(
            self._service.runs.path(run.run_id)
        ):
            if request is not None and request.state == "started":
                return run.state, "starting"
            return "interrupted", "killed"
        return run.state, run.reason


def of_request(request: RunRequest) -> RunSummary:
    """A run that has no directory (yet)."""
    state = {"started": "queued", "ended": "failed"}.get(request.state, request.state)
    reason = "starting" if request.state == "started" else request.reason
    return RunSummary(
        run_id=request.run_id, kind=request.method, state=state, reason=reason, target=None,
        accepted=None, surplus=None, seed_set=request.seed_set, requested_by=request.requested_by,
        created_at=request.requested_at, started_at=None, finished_at=None, elapsed_s=None,
        ingest_pending=False,
    )  # fmt: skip
