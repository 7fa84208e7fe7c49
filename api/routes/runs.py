"""Starting, listing, following, cancelling and resuming runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.access import Reader, Serving, Submitter, check_owner
from api.caching import answer
from api.documenting import NOT_MODIFIED, problems
from api.models.common import RUN_ID
from api.models.runs import ResumeBody, RunAccepted, RunBody, RunDetail, RunPage
from api.paging import CursorText, Limit, decode_cursor, encode_cursor
from api.problems import Problem
from api.repeating import IdempotencyKey, identity_of
from api.run_starting import resume, start
from api.run_views import RunViews, of_request
from api.service import Service
from api.strict_json import StrictRoute
from store.service.run_requests import RunRequest, ask_to_cancel, find_request
from store.service.runs_index import IndexedRun, last_progress
from store.service.statistics import run_numbers

router = APIRouter(prefix="/runs", tags=["runs"], route_class=StrictRoute)
RunId = Annotated[str, Path(pattern=RUN_ID)]
ENDED = frozenset({"interrupted", "cancelled", "ceiling", "failed", "completed"})


@router.post(
    "", status_code=202, response_model=RunAccepted, operation_id="startRun",
    responses=problems(404, 409, 413, 415),
)  # fmt: skip
async def start_run(
    request: Request,
    service: Serving,
    key: Submitter,
    body: RunBody,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run. It is executed by a process of its own, in its turn; `Location` says where it can
    be followed."""
    identity = identity_of(request, idempotency_key, await request.body())
    return await run_in_threadpool(start, service, key, body, identity)


@router.get(
    "", response_model=RunPage, operation_id="listRuns", responses={**NOT_MODIFIED, **problems(404)}
)
def list_runs(
    request: Request,
    service: Serving,
    key: Reader,
    kind: Annotated[str | None, Query(max_length=50, description="Such as self-instruct.")] = None,
    state: Annotated[str | None, Query(max_length=50)] = None,
    seed_set: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Response:
    """List runs, imports and dataset versions, the newest first."""
    place = decode_cursor(cursor, [str, str])
    views: RunViews = request.app.state.run_views
    found = [
        run
        for run in views.all()
        if (kind is None or run.kind == kind)
        and (state is None or run.state == state)
        and (seed_set is None or run.seed_set == seed_set)
        and (place is None or [run.created_at or "", run.run_id] < place)
    ]
    page = found[:limit]
    after = None
    if len(found) > limit:
        after = encode_cursor([page[-1].created_at or "", page[-1].run_id])
    value = RunPage(items=page, next_cursor=after)
    return answer(request, service.cache, value.model_dump_json(), lambda: value)


@router.get(
    "/{run_id}", response_model=RunDetail, operation_id="getRun",
    responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def get_run(request: Request, service: Serving, key: Reader, run_id: RunId) -> Response:
    """Get a run: its state, its progress, and its funnel, tokens and cost as the newest snapshot has
    them."""
    views: RunViews = request.app.state.run_views
    run, wanted = find_run(service, run_id)
    record = last_progress(service.runs.path(run_id)) if run else None
    if run is not None:
        summary = views.summary(run, wanted, views.counts())
    else:
        assert wanted is not None  # `find_run` found one of them
        summary = of_request(wanted)
    if record is not None and isinstance(record.get("accepted"), int):
        summary.accepted = record["accepted"]  # the snapshot may be older than the run's end
    message = service.executor.message(run_id) or (wanted.reason if wanted else None)
    version = f"{service.reads.version()}/{summary.model_dump_json()}/{record}/{message}"

    def make() -> RunDetail:
        numbers = None
        if run is not None and service.reads.version() is not None:
            numbers = run_numbers(service.reads, run_id)
        numbers = numbers or {"funnel": [], "usage": []}
        return RunDetail(
            **summary.model_dump(),
            model=run.model if run else None,
            run_seed=run.run_seed if run else None,
            rederived_from=run.rederived_from if run else None,
            message=message,
            progress=record,
            funnel=numbers["funnel"],
            usage=numbers["usage"],
        )

    return answer(request, service.cache, version, make)


@router.post(
    "/{run_id}/cancel", status_code=202, response_model=RunAccepted, operation_id="cancelRun",
    responses=problems(404, 409),
)  # fmt: skip
def cancel_run(request: Request, service: Serving, key: Submitter, run_id: RunId) -> RunAccepted:
    """Stop a run with grace: what is in flight may end. It can be resumed."""
    wanted = own_run(service, key, run_id)
    if wanted.state not in ("queued", "started"):
        raise Problem(409, "run_ended", f"run {run_id} has ended; there is nothing to cancel")
    with service.database.transaction() as connection:
        ask_to_cancel(connection, run_id)
    service.executor.wake()
    return RunAccepted(run_id=run_id, state="cancelling", seeds=None)


@router.post(
    "/{run_id}/resume", status_code=202, response_model=RunAccepted, operation_id="resumeRun",
    responses=problems(404, 409, 413, 415),
)  # fmt: skip
def resume_run(
    request: Request,
    service: Serving,
    key: Submitter,
    run_id: RunId,
    body: ResumeBody | None = None,
) -> RunAccepted:
    """Go on with a run that was cancelled or interrupted; nothing that was answered is asked again."""
    wanted = own_run(service, key, run_id)
    views: RunViews = request.app.state.run_views
    run = service.runs.one(run_id)
    return resume(service, wanted, run, views, body or ResumeBody())


def find_run(service: Service, run_id: str) -> tuple[IndexedRun | None, RunRequest | None]:
    """A run's directory and its request; one of them is there.

    Raises:
        Problem: neither is.
    """
    run, wanted = service.runs.one(run_id), find_request(service.database, run_id)
    if run is None and wanted is None:
        raise Problem(404, "run_not_found", f"there is no run {run_id!r}")
    return run, wanted


def own_run(service: Service, key: Submitter, run_id: str) -> RunRequest:
    """The request of a run that a key may change.

    Raises:
        Problem: there is no run, it was not started here, or it is another key's.
    """
    _, wanted = find_run(service, run_id)
    if wanted is None:
        raise Problem(
            409, "run_not_of_service",
            f"run {run_id} was not started over REST; whoever started it can stop or resume it",
        )  # fmt: skip
    check_owner(key, wanted.requested_by, f"run {run_id}")
    return wanted
