"""Dataset versions, and downloads of them and of runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from api.access import Reader, Serving, Submitter
from api.caching import answer, is_known
from api.documenting import NOT_MODIFIED, problems
from api.models.common import NAME, RUN_ID
from api.models.data import (
    DatasetBody,
    DatasetDiversity,
    DatasetPage,
    DatasetStatistics,
    DatasetView,
)
from api.paging import CursorText, Limit, decode_cursor, encode_cursor
from api.problems import Problem, ProblemField, field_problem
from api.repeating import (
    IdempotencyKey,
    created,
    earlier_answer,
    identity_of,
    respond,
    reused,
)
from api.service import Service
from api.strict_json import StrictRoute
from flows.serving.commands import run_command
from pipeline.errors import UsageError
from store.datasets import DatasetSummary, check_name, list_datasets, read_summary
from store.run_directory import SETTLED_STATES, read_state, runs_directory
from store.run_names import is_known as is_known_run
from store.run_names import resolve_run
from store.service.idempotency import (
    Answer,
    Identity,
    ReusedKeyError,
    find_answer,
    remember,
)
from store.service.reads import utc_text
from store.service.statistics import dataset_numbers, diversity

router = APIRouter(tags=["datasets"], route_class=StrictRoute)
_Name = Annotated[str, Path(pattern=RUN_ID, description="A version, or a name for its newest.")]
_RunId = Annotated[str, Path(pattern=RUN_ID)]
Format = Literal["alpaca", "sharegpt", "messages", "parquet", "hf", "llama-factory"]
_FormatQuery = Annotated[
    Format, Query(description="hf and llama-factory are folders, and come as a zip archive.")
]
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file: JSON Lines, Parquet or a zip archive.",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in (
                "application/x-ndjson",
                "application/vnd.apache.parquet",
                "application/zip",
            )
        },
    },
    206: {"description": "A part of it, where `Range` asks for one."},
    416: {"description": "It has no such part."},
    **NOT_MODIFIED,
}


@router.post(
    "/datasets", status_code=201, response_model=DatasetView, operation_id="createDataset",
    responses=problems(404, 409, 413, 415),
)  # fmt: skip
async def create_dataset(
    request: Request,
    service: Serving,
    key: Submitter,
    body: DatasetBody,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Make a dataset version of all that runs, imports or versions have accepted. If a version of
    this name holds the same content, that one is answered with."""
    identity = identity_of(request, idempotency_key, await request.body())
    return await run_in_threadpool(_create, service, body, identity)


@router.get(
    "/datasets", response_model=DatasetPage, operation_id="listDatasets",
    responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def list_all(
    request: Request,
    service: Serving,
    key: Reader,
    name: Annotated[str | None, Query(pattern=NAME, description="Only versions of this.")] = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Response:
    """List dataset versions, by name, the oldest of each first."""
    place = decode_cursor(cursor, [int])

    def make() -> DatasetPage:
        start = place[0] if place else 0
        found = list_datasets(service.store_path, name)
        page = found[start : start + limit]
        end = start + len(page)
        after = encode_cursor([end]) if len(found) > end else None
        return DatasetPage(items=[_view(item) for item in page], next_cursor=after)

    return answer(request, service.cache, _version(service), make)


@router.get(
    "/datasets/{dataset}", response_model=DatasetView, operation_id="getDataset",
    responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def get_dataset(request: Request, service: Serving, key: Reader, dataset: _Name) -> Response:
    """Get a dataset version."""
    return answer(
        request, service.cache, _version(service), lambda: _view(find_dataset(service, dataset))
    )


@router.get(
    "/datasets/{dataset}/statistics", response_model=DatasetStatistics,
    operation_id="getDatasetStatistics", responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def get_statistics(request: Request, service: Serving, key: Reader, dataset: _Name) -> Response:
    """Count a dataset's instructions and instances, and how long they are."""
    run_id = find_dataset(service, dataset).run_id

    def make() -> DatasetStatistics:
        numbers = dataset_numbers(service.reads, run_id)
        if numbers is None:
            raise _not_published(run_id)
        return DatasetStatistics.model_validate(numbers)

    return answer(request, service.cache, f"{service.reads.version()}/{run_id}", make)


@router.get(
    "/datasets/{dataset}/diversity", response_model=DatasetDiversity,
    operation_id="getDatasetDiversity", responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def get_diversity(request: Request, service: Serving, key: Reader, dataset: _Name) -> Response:
    """Show the kinds of a dataset's instructions, and how near they are to the seeds and to each
    other."""
    run_id = find_dataset(service, dataset).run_id

    def make() -> DatasetDiversity:
        return DatasetDiversity(run_id=run_id, **diversity(service.reads, run_id))

    return answer(request, service.cache, f"{service.reads.version()}/{run_id}", make)


@router.get(
    "/datasets/{dataset}/export", response_class=FileResponse, operation_id="exportDataset",
    responses={**_FILE, **problems(404, 409)},
)  # fmt: skip
def export_dataset(
    request: Request,
    service: Serving,
    key: Reader,
    dataset: _Name,
    format: _FormatQuery = "alpaca",
) -> Response:
    """Download a dataset version."""
    return _send(request, service, find_dataset(service, dataset).run_id, format)


@router.get(
    "/runs/{run_id}/export", response_class=FileResponse, operation_id="exportRun",
    responses={**_FILE, **problems(404, 409)}, tags=["runs"],
)  # fmt: skip
def export_run(
    request: Request,
    service: Serving,
    key: Reader,
    run_id: _RunId,
    format: _FormatQuery = "alpaca",
    partial: Annotated[
        bool, Query(description="Also of a run that has not ended: its longest complete prefix.")
    ] = False,
) -> Response:
    """Download what a run has accepted."""
    run = service.runs.one(run_id)
    if run is None:
        raise Problem(404, "run_not_found", f"there is no run {run_id!r} with anything to export")
    if read_state(service.runs.path(run_id)).state not in SETTLED_STATES and not partial:
        raise Problem(
            409, "run_not_ended",
            f"run {run_id} is {run.state}; with partial=true its first complete part is exported",
        )  # fmt: skip
    return _send(request, service, run_id, format)


def find_dataset(service: Service, name: str) -> DatasetSummary:
    """A version by its id, or the newest of a name.

    Raises:
        Problem: there is none.
    """
    try:
        return read_summary(runs_directory(service.store_path), name)
    except UsageError as exc:
        raise Problem(404, "dataset_not_found", f"there is no dataset {name!r}") from exc


def _send(request: Request, service: Service, run_id: str, format: str) -> Response:
    made = service.downloads.make(run_id, format)
    headers = {"ETag": made.etag, "Cache-Control": "private, no-cache"}
    if is_known(request, made.etag):
        return Response(status_code=304, headers=headers)
    return FileResponse(
        made.path, headers=headers, media_type=made.media_type, filename=made.filename
    )


def _create(service: Service, body: DatasetBody, identity: Identity | None) -> Response:
    if (earlier := earlier_answer(service.database, identity)) is not None:
        return respond(earlier, is_repeated=True)
    try:
        check_name(service.store_path, body.name)
    except UsageError as exc:
        raise field_problem("name", str(exc)) from exc
    runs_dir = runs_directory(service.store_path)
    for index, name in enumerate(body.inputs):
        if not is_known_run(runs_dir, name):
            raise _input_problem(
                404, "run_not_found", index, f"there is no run or dataset {name!r}"
            )
        state = read_state(runs_dir / resolve_run(runs_dir, name)).state
        if state not in SETTLED_STATES:
            raise _input_problem(409, "run_not_ended", index, f"run {name!r} is {state}")
    with service.datasets_lock:
        try:
            with service.database.transaction() as connection:
                earlier = find_answer(connection, identity)
            if earlier is not None:
                return respond(earlier, is_repeated=True)
            given = _make(service, body)
            with service.database.transaction() as connection:
                remember(connection, identity, given)
        except ReusedKeyError as exc:
            raise reused() from exc
    return respond(given, is_repeated=False)


def _make(service: Service, body: DatasetBody) -> Answer:
    """Made by a process of its own, which the service's other work does not wait for."""
    made = run_command(
        "datasets", "create", body.name, *body.inputs, "--store", str(service.store_path)
    )
    service.publisher.publish()
    view = _view(read_summary(runs_directory(service.store_path), made["run_id"]))
    return created(view, 201, f"/v1/datasets/{view.dataset}")


def _input_problem(status: int, code: str, index: int, message: str) -> Problem:
    field = f"inputs[{index}]"
    errors = [ProblemField(field=field, message=message)]
    return Problem(status, code, f"{field}: {message}", errors=errors)


def _view(summary: DatasetSummary) -> DatasetView:
    return DatasetView(
        dataset=summary.run_id, name=summary.name, version=summary.version,
        content_hash=summary.content_hash, instructions=summary.instructions,
        instances=summary.instances, inputs=list(summary.inputs),
        created_at=utc_text(summary.created_at),
    )  # fmt: skip


def _version(service: Service) -> str:
    """Of what the run directories hold: a number that rises, within this service."""
    return f"runs-{id(service)}-{service.runs.all()[0]}"


def _not_published(run_id: str) -> Problem:
    return Problem(
        404,
        "not_published",
        f"{run_id} is not in the snapshot yet; it will be after the next ingest",
    )
