"""SQL on the snapshot."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api.access import Querier, Serving
from api.documenting import problems
from api.models.data import QueryBody, QueryResult
from api.problems import Problem, ProblemField, field_problem
from api.strict_json import StrictRoute
from store.service.query import QueryError

router = APIRouter(tags=["query"], route_class=StrictRoute)


@router.post(
    "/query", response_model=QueryResult, operation_id="query", responses=problems(413, 415)
)
def query(service: Serving, key: Querier, body: QueryBody) -> Response:
    """Execute one SELECT on the newest snapshot (docs/STORE.md). Nothing can be written, no file be
    read, nothing loaded or attached; time, memory and rows are limited."""
    most = service.settings.api.max_text_chars
    if len(body.sql) > most:
        raise field_problem("sql", f"has {len(body.sql)} characters; {most} are allowed")
    version = str(service.reads.version())
    try:
        found = service.queries.run(body.sql, body.max_rows)
    except QueryError as exc:
        if exc.code == "query_busy":
            raise Problem(503, exc.code, exc.message, headers={"Retry-After": "2"}) from exc
        raise Problem(
            422, exc.code, f"sql: {exc.message}",
            errors=[ProblemField(field="sql", message=exc.message)],
        ) from exc  # fmt: skip
    value = QueryResult(**found, snapshot=version)
    return Response(value.model_dump_json(), media_type="application/json")
