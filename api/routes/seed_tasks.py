"""Submitting, listing and retracting seed tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from api.access import Reader, Serving, Submitter, check_owner
from api.caching import answer
from api.documenting import NOT_MODIFIED, problems
from api.models.common import TASK_ID
from api.models.seeds import SeedTaskPage, SeedTaskView, SkippedTask, Submission
from api.paging import CursorText, Limit, decode_cursor, encode_cursor
from api.problems import Problem, ProblemField
from api.repeating import IdempotencyKey, created, identity_of, respond, reused
from api.strict_json import StrictRoute
from api.uploads import read_tasks
from flows.serving.pool import Refusal, RefusedTasksError
from store.service.idempotency import Answer, ReusedKeyError
from store.service.seed_tasks import PoolTask, TaskFilter, find_task, list_tasks

router = APIRouter(prefix="/seed-tasks", tags=["seed tasks"], route_class=StrictRoute)
_Id = Annotated[str, Path(pattern=TASK_ID)]
_SHOWN_REFUSALS = 100
_TASK = {"$ref": "#/components/schemas/SeedTaskBody"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One seed task, a list of them, or JSON Lines with one a line.",
        "content": {
            "application/json": {
                "schema": {"anyOf": [_TASK, {"type": "array", "items": _TASK, "minItems": 1,
                                             "maxItems": 1000}]},
            },
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}  # fmt: skip


@router.post(
    "", status_code=201, response_model=Submission, openapi_extra=_BODY, operation_id="submitSeedTasks",
    responses={200: {"model": Submission, "description": "All were skipped."},
               **problems(409, 413, 415)},
)  # fmt: skip
async def submit_seed_tasks(
    request: Request,
    service: Serving,
    key: Submitter,
    skip_duplicates: Annotated[
        bool,
        Query(description="Leave duplicates and near-duplicates out instead of refusing all."),
    ] = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Submit one seed task or up to 1,000: all are stored, or none.

    A task that is a near-duplicate of another in the pool (ROUGE-L, as in a run) is refused with the
    nearest one and its score, unless `skip_duplicates` is set.
    """
    body = await request.body()

    def submit() -> Response:
        tasks, is_single = read_tasks(request, body, service.settings.api)
        identity = identity_of(request, idempotency_key, body)

        def make_answer(stored: Sequence[PoolTask], refusals: Sequence[Refusal]) -> Answer:
            ids = [item.task.id for item in stored]
            value = Submission(
                stored=len(ids), ids=ids, skipped=[_skipped(one) for one in refusals]
            )
            location = f"/v1/seed-tasks/{ids[0]}" if is_single and ids else None
            return created(value, 201 if ids else 200, location)

        try:
            given, is_repeated = service.pool.submit(
                [task.record() for task in tasks], key.key_id, identity, make_answer,
                skip=skip_duplicates,
            )  # fmt: skip
        except ReusedKeyError as exc:
            raise reused() from exc
        except RefusedTasksError as exc:
            raise _refused(exc.refusals, is_single=is_single) from exc
        return respond(given, is_repeated=is_repeated)

    return await run_in_threadpool(submit)


@router.get(
    "", response_model=SeedTaskPage, operation_id="listSeedTasks",
    responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def list_seed_tasks(
    request: Request,
    service: Serving,
    key: Reader,
    text: Annotated[
        str | None, Query(min_length=1, max_length=1000, description="Words of the instruction.")
    ] = None,
    is_classification: bool | None = None,
    submitted_by: Annotated[str | None, Query(max_length=64, description="Id of a key.")] = None,
    retracted: Annotated[bool, Query(description="Those that were retracted, instead.")] = False,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Response:
    """List seed tasks in the order they came."""
    place = decode_cursor(cursor, [int])
    wanted = TaskFilter(text, is_classification, submitted_by, retracted)

    def make() -> SeedTaskPage:
        found = list_tasks(
            service.database, wanted, after=place[0] if place else 0, limit=limit + 1
        )
        page = found[:limit]
        after = encode_cursor([page[-1].number]) if len(found) > limit else None
        return SeedTaskPage(items=[SeedTaskView.of(item) for item in page], next_cursor=after)

    return answer(request, service.cache, f"seeds-{service.database.revision()}", make)


@router.get(
    "/{seed_task_id}", response_model=SeedTaskView, operation_id="getSeedTask",
    responses={**NOT_MODIFIED, **problems(404)},
)  # fmt: skip
def get_seed_task(request: Request, service: Serving, key: Reader, seed_task_id: _Id) -> Response:
    """Get a seed task, also one that was retracted."""
    return answer(
        request, service.cache, f"seeds-{service.database.revision()}",
        lambda: SeedTaskView.of(_find(service, seed_task_id)),
    )  # fmt: skip


@router.post(
    "/{seed_task_id}/retract", response_model=SeedTaskView, operation_id="retractSeedTask",
    responses=problems(404),
)  # fmt: skip
def retract_seed_task(service: Serving, key: Submitter, seed_task_id: _Id) -> SeedTaskView:
    """Take a seed task out of the pool: runs that start later leave it out, and its text may be
    submitted again."""
    found = _find(service, seed_task_id)
    check_owner(key, found.submitted_by, f"seed task {seed_task_id}")
    service.pool.retract(found.task)
    return SeedTaskView.of(_find(service, seed_task_id))


def _find(service: Serving, seed_task_id: str) -> PoolTask:
    found = find_task(service.database, seed_task_id)
    if found is None:
        raise Problem(404, "seed_task_not_found", f"there is no seed task {seed_task_id!r}")
    return found


def _skipped(refusal: Refusal) -> SkippedTask:
    return SkippedTask(
        index=refusal.index, code=refusal.code, nearest_id=refusal.nearest_id,
        nearest_instruction=refusal.nearest_text, score=refusal.score,
    )  # fmt: skip


def _refused(refusals: Sequence[Refusal], *, is_single: bool) -> Problem:
    errors = []
    for refusal in refusals[:_SHOWN_REFUSALS]:
        place = "" if is_single else f"tasks[{refusal.index}]."
        if refusal.code == "seed_task_id_taken":
            errors.append(
                ProblemField(
                    field=f"{place}id", code=refusal.code,
                    message=f"there is a seed task {refusal.nearest_id!r} already",
                )
            )  # fmt: skip
            continue
        near = {"id": refusal.nearest_id, "instruction": refusal.nearest_text,
                "score": refusal.score}  # fmt: skip
        what = "the same as" if refusal.code == "duplicate" else "too near to"
        errors.append(
            ProblemField(
                field=f"{place}instruction", code=refusal.code, nearest=near,
                message=f"{what} that of seed task {refusal.nearest_id!r} "
                f"(ROUGE-L {refusal.score or 0:.3f})",
            )
        )  # fmt: skip
    codes = {refusal.code for refusal in refusals}
    code = codes.pop() if len(codes) == 1 else "seed_tasks_refused"
    number = "one is" if len(refusals) == 1 else f"{len(refusals)} are"
    return Problem(
        409, code,
        f"nothing was stored: {number} refused; the first: {errors[0].field}: {errors[0].message}",
        errors=errors,
    )  # fmt: skip
