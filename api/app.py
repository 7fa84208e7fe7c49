"""The application: routes, errors, OpenAPI."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, Response

from api import problems
from api.access import need
from api.dashboard import data as dashboard_data
from api.dashboard import pages as dashboard_pages
from api.documenting import problems as problem_answers
from api.examples import add_examples
from api.gate import App, Gate
from api.metrics import Metrics
from api.models.seeds import SeedTaskBody
from api.problems import ProblemDetails
from api.routes import (
    datasets,
    events,
    instructions,
    operations,
    query,
    runs,
    seed_sets,
    seed_tasks,
)
from api.run_views import RunViews
from api.service import Service
from store.schema import evoloom_version

_DESCRIPTION = (
    "Seed tasks in, datasets out: submit seed tasks, name a set of them, start a run, follow it, "
    "download what it made. docs/API.md shows the whole path."
)


def make_app(service: Service) -> App:
    """The ASGI application that serves a store."""
    app = FastAPI(
        title="evoloom",
        version=evoloom_version(),
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    app.state.service = service
    app.state.run_views = RunViews(service)
    metrics = app.state.metrics = Metrics(service)
    for module in (
        seed_tasks, seed_sets, events, runs, datasets, instructions, query, operations
    ):  # fmt: skip
        app.include_router(module.router, prefix="/v1")
    app.include_router(_documentation(), prefix="/v1")
    app.include_router(dashboard_data.router)
    app.include_router(dashboard_pages.router)
    for path, handler in (
        ("/health", operations.get_health),
        ("/ready", operations.get_readiness),
        ("/metrics", operations.get_metrics),
    ):
        app.add_api_route(path, handler, include_in_schema=False)
    # How FastAPI lets the document be changed: by putting another function in its place.
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    inner: Any = GZipMiddleware(app, minimum_size=1024, compresslevel=4)
    gate: App = Gate(inner, service, metrics)
    origins = service.settings.api.cors_origins
    if not origins:
        return gate
    return CORSMiddleware(
        gate,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match",
                       "Last-Event-ID", "X-Request-Id"],
        expose_headers=["ETag", "Location", "Retry-After", "X-Request-Id", "Idempotency-Replayed"],
    )  # fmt: skip


def _documentation() -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get(
        "/openapi.json", operation_id="getOpenApi", responses=problem_answers(),
        dependencies=[Depends(need("read"))], response_model=dict[str, Any],
    )  # fmt: skip
    def get_openapi_document(request: Request) -> Response:
        """Describe the service (OpenAPI 3.1)."""
        return JSONResponse(request.app.openapi())

    return router


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (ProblemDetails, SeedTaskBody):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    add_examples(document)
    app.openapi_schema = document
    return document
