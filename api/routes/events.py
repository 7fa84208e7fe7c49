"""A run's progress as Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from api.access import Reader, Serving
from api.documenting import problems
from api.problems import Problem
from api.routes.runs import ENDED, RunId, find_run
from api.run_views import RunViews, of_request
from api.service import Service
from store.service.runs_index import read_progress

router = APIRouter(prefix="/runs", tags=["runs"])
_LOOK_EVERY_S = 0.5
_PING_EVERY_S = 15
_OPEN: set[object] = set()

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "`progress` (a progress record), `state` (state and reason, whenever they "
        "change) and, once, `end`. The id of an event is the place to go on from.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/{run_id}/events", response_class=EventSourceResponse, operation_id="followRun",
    responses={**_EVENTS, **problems(404)},
)  # fmt: skip
async def follow_run(
    request: Request,
    service: Serving,
    key: Reader,
    run_id: RunId,
    from_start: Annotated[
        bool, Query(description="All progress there was, not only the newest.")
    ] = False,
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", max_length=30, pattern=r"^[0-9]+$")
    ] = None,
) -> EventSourceResponse:
    """Follow a run to its end, as Server-Sent Events. A stream that breaks off goes on where
    `Last-Event-ID` says."""
    await run_in_threadpool(find_run, service, run_id)
    if len(_OPEN) >= service.settings.api.max_streams:
        raise Problem(
            503, "too_many_streams", f"{len(_OPEN)} event streams are open; try again later",
            headers={"Retry-After": "10"},
        )  # fmt: skip
    offset = int(last_event_id) if last_event_id else 0
    is_all = from_start or last_event_id is not None

    async def events() -> AsyncIterator[ServerSentEvent]:
        stream = object()
        _OPEN.add(stream)
        try:
            async for event in _events(request, service, run_id, offset, is_all=is_all):
                yield event
        finally:
            _OPEN.discard(stream)

    return EventSourceResponse(
        events(), ping=_PING_EVERY_S, headers={"Cache-Control": "no-store"}
    )  # fmt: skip


async def _events(
    request: Request, service: Service, run_id: str, offset: int, *, is_all: bool
) -> AsyncIterator[ServerSentEvent]:
    views: RunViews = request.app.state.run_views
    run_dir = service.runs.path(run_id)
    shown: tuple[str, str | None] | None = None
    while True:
        # The state first: what was said before the end is told before the end.
        state, reason, is_over = await run_in_threadpool(_state, service, views, run_id)
        records = await run_in_threadpool(read_progress, run_dir, offset)
        if records and not is_all:
            records = records[-1:]
        is_all = True
        for offset, record in records:
            yield ServerSentEvent(_data(record), event="progress", id=str(offset))
        if (state, reason) != shown:
            shown = (state, reason)
            value = {"run_id": run_id, "state": state, "reason": reason}
            yield ServerSentEvent(_data(value), event="state", id=str(offset))
        if is_over:
            value = {"run_id": run_id, "state": state, "reason": reason}
            yield ServerSentEvent(_data(value), event="end", id=str(offset))
            return
        await asyncio.sleep(_LOOK_EVERY_S)


def _state(service: Service, views: RunViews, run_id: str) -> tuple[str, str | None, bool]:
    """(state, reason, whether nothing more will come)."""
    run, wanted = find_run(service, run_id)
    is_open = wanted is not None and wanted.state in ("queued", "started")
    if run is None:
        assert wanted is not None
        summary = of_request(wanted)
        return summary.state, summary.reason, not is_open
    state, reason = views.state_of(run, wanted)
    return state, reason, state in ENDED and not is_open


def _data(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
