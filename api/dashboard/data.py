"""What the pages show beside the API's own answers. Below /v1, so that a key is asked for; not in the
OpenAPI document, for it changes with the pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import RootModel
from starlette.responses import Response

from api.access import Reader, Serving
from api.caching import answer
from api.models.common import RUN_ID
from api.problems import Problem
from api.routes.datasets import find_dataset
from api.service import Service
from flows.serving.commands import run_command
from store.service.page_data import (
    curation_of,
    find_evaluation,
    list_evaluations,
    list_items,
    run_page,
)

router = APIRouter(prefix="/v1/dashboard", include_in_schema=False)
_Id = Annotated[str, Path(pattern=RUN_ID)]
_Side = Annotated[str, Query(pattern=RUN_ID, description="A dataset version.")]
_SHOWN_DIFFERENCES = 20


class _Data(RootModel[Any]):
    """Rows as they are."""


@router.get("/runs/{run_id}")
def get_run_page(request: Request, service: Serving, key: Reader, run_id: _Id) -> Response:
    """Novelty, samples and rejects of a run, import or dataset version."""
    if service.runs.one(run_id) is None:
        raise Problem(404, "run_not_found", f"there is no run {run_id!r} with anything to show")
    return _answer(request, service, lambda: run_page(service.reads, run_id))


@router.get("/datasets/{dataset}")
def get_dataset_page(request: Request, service: Serving, key: Reader, dataset: _Id) -> Response:
    """The curation of a dataset version, step by step."""
    run_id = find_dataset(service, dataset).run_id
    return _answer(request, service, lambda: {"curation": curation_of(service.reads, run_id)})


@router.get("/compare")
def compare(request: Request, service: Serving, key: Reader, a: _Side, b: _Side) -> Response:
    """What only A has, only B, and which outputs changed."""
    names = [find_dataset(service, name).run_id for name in (a, b)]

    def make() -> _Data:
        # By a process of its own: both are read whole, which takes seconds where they are large.
        return _Data(
            run_command(
                "datasets", "diff", *names, "--samples", str(_SHOWN_DIFFERENCES),
                "--store", str(service.store_path),
            )
        )  # fmt: skip

    # Versions never change, so that this stays as it is.
    return answer(request, service.cache, f"compare/{names[0]}/{names[1]}", make)


@router.get("/evaluations")
def get_evaluations(request: Request, service: Serving, key: Reader) -> Response:
    """Evaluations of students."""
    return _answer(request, service, lambda: {"items": list_evaluations(service.reads)})


@router.get("/evaluations/{run_id}")
def get_evaluation(request: Request, service: Serving, key: Reader, run_id: _Id) -> Response:
    """One evaluation."""

    def make() -> dict[str, Any]:
        found = find_evaluation(service.reads, run_id)
        if found is None:
            raise Problem(
                404, "evaluation_not_found",
                f"there is no finished evaluation {run_id!r} in the newest snapshot",
            )  # fmt: skip
        return found

    return _answer(request, service, make)


@router.get("/evaluations/{run_id}/items")
def get_items(
    request: Request,
    service: Serving,
    key: Reader,
    run_id: _Id,
    file: Annotated[int, Query(ge=0, le=10**6)] = 0,
    order: Literal["file", "better", "worse"] = "file",
    after: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Items of one of its files, sample by sample."""

    def make() -> dict[str, Any]:
        rows = list_items(service.reads, run_id, file, after, limit + 1, order)
        return {
            "items": rows[:limit],
            "next_after": after + limit if len(rows) > limit else None,
        }

    return _answer(request, service, make)


def _answer(request: Request, service: Service, make: Callable[[], dict[str, Any]]) -> Response:
    return answer(request, service.cache, str(service.reads.version()), lambda: _Data(make()))
