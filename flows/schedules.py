"""Schedules: deployments of evoloom's flows with a cron, a time zone and parameters.

A schedule is a deployment FLOW/NAME with the tag `evoloom-schedule`. All schedules of a store share one
of Prefect's global concurrency limits, so that their flow runs wait for each other; a flow run that is
asked for otherwise (the REST service's, a step of a nightly in another pool) does not take part.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.deployments import (
    POOLS,
    DeploymentError,
    entrypoints_of,
    flow_names,
    load_flow,
    make_pool,
)
from flows.prefect_server import configured_server
from flows.profiles import load_profile, merged
from pipeline.config import load_settings
from pipeline.errors import EvoloomError, UsageError

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.client.schemas.schedules import CronSchedule

TAG = "evoloom-schedule"
_SHOWN_RUNS = 3
_POLL_S = 2.0


class ScheduleError(EvoloomError):
    """Raised when a flow run that was waited for did not complete."""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The latest flow run of a schedule that has begun."""

    name: str
    state: str
    message: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as the server knows it; times are UTC."""

    flow: str
    name: str
    pool: str
    cron: str
    timezone: str
    is_paused: bool
    store: str
    runs_per_store: int | None
    next: tuple[datetime, ...]
    last: LastRun | None

    @property
    def full_name(self) -> str:
        """`FLOW/NAME`."""
        return f"{self.flow}/{self.name}"


def add_schedule(
    flow: str,
    name: str,
    cron: str,
    timezone: str,
    profile: Path | None,
    flags: Mapping[str, Any],
    pool: str | None,
) -> Schedule:
    """Make a schedule; one of this flow and name is replaced.

    Args:
        flags: settings by section, over those of the profile.
        pool: the work pool; None: the flow's own.

    Raises:
        UsageError: flow, name, cron, time zone, pool or profile are not usable, or no server answers.
        DeploymentError: the server does not take it.
    """
    own_pool, entrypoint = _flow_of(flow)
    if pool is not None:
        entrypoints_of(pool)
    if name in POOLS or not name or set(name) & set("/%&<>"):
        raise UsageError(
            f"--name {name!r}: another name than {', '.join(POOLS)} is needed, without / % & < >"
        )
    schedule = checked_cron(cron, timezone)
    loaded = load_profile(flow, profile, flags)
    settings = loaded.settings
    resolved = load_settings(_dotted(settings))
    store = Path(resolved.store.path).expanduser().resolve()
    settings = merged(settings, {"store": {"path": str(store)}})
    parameters = {**loaded.parameters(), "settings": settings}
    configured_server()
    make_pool(pool or own_pool)
    try:
        _create(entrypoint, name, schedule, parameters, pool or own_pool,
                resolved.schedule.runs_per_store)  # fmt: skip
    except Exception as exc:
        raise DeploymentError(
            f"the Prefect server does not take the schedule {flow}/{name}: {exc}"
        ) from exc
    return find_schedule(f"{flow}/{name}")


def checked_cron(cron: str, timezone: str) -> CronSchedule:
    """The cron as Prefect takes it.

    Raises:
        UsageError: it is none, or there is no such time zone.
    """
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        return CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as exc:
        fields = {str(error["loc"][0]) for error in exc.errors() if error["loc"]}
        if "timezone" in fields:
            raise UsageError(
                f"--timezone {timezone!r}: no such time zone; an IANA name is expected, such as "
                "Europe/Berlin or UTC"
            ) from exc
        raise UsageError(
            f"--cron {cron!r}: five fields are expected, minute (0-59), hour (0-23), day of the "
            "month (1-31), month (1-12) and day of the week (0-7), such as '0 0 * * *' for every "
            "midnight"
        ) from exc


def list_schedules() -> list[Schedule]:
    """The schedules on the server, by flow and name."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = [_schedule(client, deployment) for deployment in _deployments(client)]
    return sorted(found, key=lambda schedule: schedule.full_name)


def find_schedule(name: str) -> Schedule:
    """A schedule by its name, or FLOW/NAME.

    Raises:
        UsageError: there is none, or more than one.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return _schedule(client, _find(client, name))


def pause_schedule(name: str, *, paused: bool) -> Schedule:
    """Have no flow runs scheduled any more, or again.

    Raises:
        UsageError: there is no such schedule.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        set_state = client.pause_deployment if paused else client.resume_deployment
        set_state(_find(client, name).id)
        return _schedule(client, _find(client, name))


def remove_schedule(name: str) -> str:
    """Remove a schedule, and the limit of its store where no other has it; gives its full name. Flow
    runs that were executed stay.

    Raises:
        UsageError: there is no such schedule.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        deployment = _find(client, name)
        full_name = _schedule(client, deployment).full_name
        limit = deployment.global_concurrency_limit
        client.delete_deployment(deployment.id)
        others = (other.global_concurrency_limit for other in _deployments(client))
        if limit is not None and all(other is None or other.id != limit.id for other in others):
            with contextlib.suppress(ObjectNotFound):  # somebody was quicker
                client.delete_global_concurrency_limit_by_name(limit.name)
    return full_name


def run_schedule(name: str) -> tuple[UUID, str]:
    """Start a flow run of a schedule now; gives its id and its name.

    Raises:
        UsageError: there is no such schedule.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        flow_run = client.create_flow_run_from_deployment(_find(client, name).id)
    return flow_run.id, flow_run.name


def wait_for(flow_run_id: UUID, on_state: Callable[[str], None]) -> str:
    """Wait for a flow run's end; gives what its state says.

    Raises:
        ScheduleError: it did not complete.
    """
    from prefect.client.orchestration import get_client

    told = ""
    with get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(flow_run_id).state
            name = (state.name or "") if state else ""
            if name != told:
                told = name
                on_state(name)
            if state is not None and state.is_final():
                text = state.message or name
                if state.is_completed():
                    return text
                raise ScheduleError(f"flow run {flow_run_id} is {name}: {text}")
            time.sleep(_POLL_S)


def limit_name(store: Path) -> str:
    """The global concurrency limit of a store's schedules."""
    return f"evoloom-store-{hashlib.sha256(str(store).encode()).hexdigest()[:16]}"


def _flow_of(flow: str) -> tuple[str, str]:
    names = flow_names()
    if flow not in names:
        raise UsageError(f"{flow!r}: there is no such flow; there: {', '.join(names)}")
    return names[flow]


def _dotted(settings: Mapping[str, Any]) -> dict[str, Any]:
    from pipeline.config import flatten

    return dict(flatten(settings))


def _create(
    entrypoint: str,
    name: str,
    schedule: CronSchedule,
    parameters: Mapping[str, Any],
    pool: str,
    runs_per_store: int,
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.utilities.callables import parameter_schema

    flow = load_flow(entrypoint)
    limit = limit_name(Path(parameters["settings"]["store"]["path"]))
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit, runs_per_store)
        limit_id = client.read_global_concurrency_limit_by_name(limit).id
        # In one request, so that no flow run is scheduled before the limit counts; Prefect's client
        # has no parameter for a limit that deployments share.
        client.request(
            "POST", "/deployments/",
            json={
                "name": name,
                "flow_id": str(client.create_flow_from_name(flow.name)),
                "work_pool_name": pool,
                "entrypoint": entrypoint,
                "pull_steps": [],
                "parameters": dict(parameters),
                "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
                "enforce_parameter_schema": True,
                "schedules": [
                    {"schedule": schedule.model_dump(mode="json"), "active": True}
                ],
                "paused": False,
                "global_concurrency_limit_id": str(limit_id),
                "concurrency_options": {"collision_strategy": "ENQUEUE"},
                "tags": ["evoloom", TAG],
                "description": flow.description,
            },
        )  # fmt: skip


def _deployments(client: Any) -> list[DeploymentResponse]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

    chosen = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(deployment_filter=chosen, offset=len(found)):
        found += page
    return found


def _find(client: Any, name: str) -> DeploymentResponse:
    flow, _, short = name.rpartition("/")
    named = {
        f"{client.read_flow(deployment.flow_id).name}/{deployment.name}": deployment
        for deployment in _deployments(client)
    }
    found = [full for full in named if full == name or (not flow and full.endswith(f"/{short}"))]
    if not found:
        there = ", ".join(sorted(named)) or "none; `evoloom schedule add` makes one"
        raise UsageError(f"there is no schedule {name}; there: {there}")
    if len(found) > 1:
        raise UsageError(f"{name} is the name of {' and '.join(sorted(found))}; give both parts")
    return named[found[0]]


def _schedule(client: Any, deployment: DeploymentResponse) -> Schedule:
    from prefect.client.schemas.schedules import CronSchedule

    planned = [item.schedule for item in deployment.schedules]
    crons = [item for item in planned if isinstance(item, CronSchedule)]
    cron = crons[0] if crons else None
    limit = deployment.global_concurrency_limit
    settings = deployment.parameters.get("settings") or {}
    return Schedule(
        client.read_flow(deployment.flow_id).name,
        deployment.name,
        deployment.work_pool_name or "",
        cron.cron if cron else "",
        (cron.timezone if cron else None) or "UTC",
        deployment.paused,
        (settings.get("store") or {}).get("path", ""),
        limit.limit if limit else None,
        () if deployment.paused or cron is None else next_times(cron.cron, cron.timezone or "UTC"),
        _last_run(client, deployment.id),
    )


def next_times(cron: str, timezone: str) -> tuple[datetime, ...]:
    """The next times of a cron, by Prefect's own reckoning."""
    from prefect.server.schemas.schedules import CronSchedule

    start = datetime.now(UTC) + timedelta(seconds=1)
    dates = CronSchedule(cron=cron, timezone=timezone).get_dates(n=_SHOWN_RUNS, start=start)
    return tuple(date.astimezone(UTC) for date in asyncio.run(dates))


def _last_run(client: Any, deployment_id: UUID) -> LastRun | None:
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterStartTime,
    )
    from prefect.client.schemas.sorting import FlowRunSort

    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id])),
        flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False)),
        sort=FlowRunSort.START_TIME_DESC, limit=1,
    )  # fmt: skip
    if not found or found[0].state is None:
        return None
    run = found[0]
    return LastRun(run.name, run.state.name or "", run.state.message or "", run.start_time)
