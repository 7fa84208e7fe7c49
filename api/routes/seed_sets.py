"""Seed sets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.access import Reader, Serving, Submitter
from api.caching import answer
from api.documenting import NOT_MODIFIED, problems
from api.models.common import NAME
from api.models.seeds import (
    SeedSetBody,
    SeedSetFilter,
    SeedSetPage,
    SeedSetView,
    SeedTaskPage,
    SeedTaskView,
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
from api.strict_json import StrictRoute
from store.service.idempotency import ReusedKeyError, find_answer, remember
from store.service.seed_sets import find_set, insert_set, list_members, list_sets
from store.service.seed_tasks import TaskFilter, find_tasks, list_tasks

router = APIRouter(prefix="/seed-sets", tags=["seed sets"], route_class=StrictRoute)
_Name = Annotated[str, Path(pattern=NAME)]
_AT_ONCE = 1000


@router.post(
    "", status_code=201, response_model=SeedSetView, operation_id="createSeedSet",
    responses=problems(404, 409, 413, 415),
)  # fmt: skip
async def create_seed_set(
    request: Request,
    service: Serving,
    key: Submitter,
    body: SeedSetBody,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Name a selection of seed tasks to run from. It never changes; what is retracted later is left
    out of runs that start later."""
    identity = identity_of(request, idempotency_key, await request.body())

    def create() -> Response:
        if (earlier := earlier_answer(service.database, identity)) is not None:
            return respond(earlier, is_repeated=True)
        ids = _members(service, body)
        try:
            with service.database.transaction() as connection:
                earlier = find_answer(connection, identity)
                if earlier is not None:
                    return respond(earlier, is_repeated=True)
                insert_set(connection, body.name, body.description, ids, key.key_id)
                (at,) = connection.execute(
                    "SELECT created_at FROM seed_sets WHERE name = ?", (body.name,)
                ).fetchone()
                view = SeedSetView(
                    name=body.name, description=body.description, created_by=key.key_id,
                    created_at=at, size=len(ids), active=len(ids),
                )  # fmt: skip
                given = created(view, 201, f"/v1/seed-sets/{body.name}")
                remember(connection, identity, given)
        except ReusedKeyError as exc:
            raise reused() from exc
        except sqlite3.IntegrityError as exc:
            raise Problem(
                409,
                "seed_set_exists",
                f"there is a seed set {body.name!r} already; sets never change",
            ) from exc
        return respond(given, is_repeated=False)

    return await run_in_threadpool(create)


@router.get(
    "", response_model=SeedSetPage, operation_id="listSeedSets",
    responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def list_seed_sets(
    request: Request, service: Serving, key: Reader, limit: Limit = 50, cursor: CursorText = None
) -> Response:
    """List seed sets in the order they were made."""
    place = decode_cursor(cursor, [int])

    def make() -> SeedSetPage:
        found = list_sets(service.database, after=place[0] if place else 0, limit=limit + 1)
        page = found[:limit]
        after = encode_cursor([page[-1].number]) if len(found) > limit else None
        return SeedSetPage(items=[SeedSetView.of(item) for item in page], next_cursor=after)

    return answer(request, service.cache, f"seeds-{service.database.revision()}", make)


@router.get(
    "/{name}", response_model=SeedSetView, operation_id="getSeedSet",
    responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def get_seed_set(request: Request, service: Serving, key: Reader, name: _Name) -> Response:
    """Get a seed set."""

    def make() -> SeedSetView:
        found = find_set(service.database, name)
        if found is None:
            raise _not_found(name)
        return SeedSetView.of(found)

    return answer(request, service.cache, f"seeds-{service.database.revision()}", make)


@router.get(
    "/{name}/seed-tasks", response_model=SeedTaskPage, operation_id="listSeedSetTasks",
    responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def list_set_tasks(
    request: Request,
    service: Serving,
    key: Reader,
    name: _Name,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Response:
    """List a set's seed tasks, also those that have been retracted since."""
    place = decode_cursor(cursor, [int])

    def make() -> SeedTaskPage:
        if find_set(service.database, name) is None:
            raise _not_found(name)
        members = list_members(
            service.database, name, after=place[0] if place else -1, limit=limit + 1
        )
        page = members[:limit]
        tasks = find_tasks(service.database, [task_id for _, task_id in page])
        after = encode_cursor([page[-1][0]]) if len(members) > limit else None
        items = [SeedTaskView.of(tasks[task_id]) for _, task_id in page]
        return SeedTaskPage(items=items, next_cursor=after)

    return answer(request, service.cache, f"seeds-{service.database.revision()}", make)


def _members(service: Serving, body: SeedSetBody) -> list[str]:
    """Ids of the tasks that a new set is to have."""
    if body.seed_task_ids is None:
        ids = list(_all(service, body.filter or SeedSetFilter()))
    else:
        ids = _named(service, body.seed_task_ids)
        if body.filter is not None:
            wanted = set(_all(service, body.filter))
            ids = [task_id for task_id in ids if task_id in wanted]
    if not ids:
        raise Problem(409, "seed_set_empty", "no seed task in the pool is like this")
    return ids


def _named(service: Serving, named: list[str]) -> list[str]:
    most = service.settings.api.max_batch
    if len(named) > most:
        raise field_problem("seed_task_ids", f"name {most} at most, or use filter")
    tasks = find_tasks(service.database, named)
    for index, task_id in enumerate(named):
        found = tasks.get(task_id)
        if found is None or found.retracted_at is not None:
            field = f"seed_task_ids[{index}]"
            message = f"seed task {task_id!r} " + (
                "was retracted" if found else "is not in the pool"
            )
            raise Problem(
                409 if found else 404,
                "seed_task_retracted" if found else "seed_task_not_found",
                f"{field}: {message}",
                errors=[ProblemField(field=field, message=message)],
            )
    return list(dict.fromkeys(named))


def _all(service: Serving, filter: SeedSetFilter) -> Iterator[str]:
    wanted = TaskFilter(filter.text, filter.is_classification, filter.submitted_by)
    after = 0
    while found := list_tasks(service.database, wanted, after=after, limit=_AT_ONCE):
        yield from (item.task.id for item in found)
        after = found[-1].number


def _not_found(name: str) -> Problem:
    return Problem(404, "seed_set_not_found", f"there is no seed set {name!r}")
