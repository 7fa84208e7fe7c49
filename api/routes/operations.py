"""Health, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from api.access import Reader, Serving
from api.documenting import problems
from api.metrics import Metrics
from api.models.data import Health, Readiness
from api.strict_json import StrictRoute
from pipeline.errors import EvoloomError
from store.schema import evoloom_version
from store.service.database import now_utc

router = APIRouter(tags=["operations"], route_class=StrictRoute)
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/health", response_model=Health, operation_id="getHealth")
def get_health() -> Health:
    """Say that the service lives. The only route that needs no key."""
    return Health(status="alive", version=evoloom_version())


@router.get(
    "/ready", response_model=Readiness, operation_id="getReadiness",
    responses={**problems(), 503: {"model": Readiness, "description": "Not ready."}},
)  # fmt: skip
def get_readiness(service: Serving, key: Reader) -> Response:
    """Say whether the service can do its work: write its database, read a snapshot, execute runs."""
    checks = {"database": "ok", "snapshot": "ok", "executor": "ok"}
    try:
        with service.database.transaction() as connection:
            connection.execute("SELECT ?", (now_utc(),))
    except EvoloomError as exc:
        checks["database"] = str(exc)
    if service.reads.version() is None:
        checks["snapshot"] = "none has been published yet"
    if (problem := service.executor.problem()) is not None:
        checks["executor"] = problem
    is_ready = all(value == "ok" for value in checks.values())
    value = Readiness(status="ready" if is_ready else "not ready", checks=checks)
    return JSONResponse(value.model_dump(), 200 if is_ready else 503)


@router.get(
    "/metrics", response_class=PlainTextResponse, operation_id="getMetrics", responses=problems()
)
def get_metrics(request: Request, key: Reader) -> Response:
    """Metrics in Prometheus' text format."""
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.text(), media_type=METRICS_TYPE)
