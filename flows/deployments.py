"""Deployments: which flow runs in which Prefect work pool, and how they are registered.

The pool `cpu` has what talks to a teacher or reads text, the pool `gpu` what trains and measures a
student. A worker needs no checkout: a deployment names its flow by module.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import EvoloomError, UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from prefect import Flow

POOLS: dict[str, tuple[str, ...]] = {
    "cpu": (
        "flows.prefect_flows.self_instruct",
        "flows.prefect_flows.evol_instruct",
        "flows.prefect_curation.curate",
        "flows.prefect_nightly.nightly",
    ),
    "gpu": (
        "flows.prefect_student.train_student",
        "flows.prefect_evaluation.evaluate_student",
    ),
}
"""The flows of each work pool, by module and function."""


class DeploymentError(EvoloomError):
    """Raised when the Prefect server does not take a deployment."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment as the server knows it: `FLOW/POOL`."""

    name: str
    id: UUID


def deploy_pool(pool: str) -> list[Deployed]:
    """Make a work pool, unless it is there, and register a deployment of each of its flows in it.

    A deployment has the pool's name; one that is there already is brought up to date and keeps its
    schedules.

    Raises:
        UsageError: there is no such pool.
        DeploymentError: the server cannot be reached or refuses.
    """
    entrypoints = entrypoints_of(pool)
    make_pool(pool)
    try:
        return [_deploy(entrypoint, pool) for entrypoint in entrypoints]
    except Exception as exc:
        raise DeploymentError(
            f"the Prefect server does not take the deployments of the work pool {pool}: {exc}"
        ) from exc


def make_pool(pool: str) -> None:
    """Make a work pool, unless it is there.

    Raises:
        UsageError: there is no such pool.
        DeploymentError: the server cannot be reached or refuses.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    entrypoints_of(pool)
    try:
        with get_client(sync_client=True) as client, contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    except Exception as exc:
        raise DeploymentError(
            f"the Prefect server does not take the work pool {pool}: {exc}"
        ) from exc


def workers_online(pool: str) -> bool:
    """Whether a worker asks for the flow runs of a pool at present."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        answer = client.request(
            "POST", "/work_pools/{work_pool_name}/workers/filter",
            path_params={"work_pool_name": pool}, json={},
        )  # fmt: skip
    return any(worker["status"] == "ONLINE" for worker in answer.json())


def entrypoints_of(pool: str) -> Sequence[str]:
    """The flows of a work pool.

    Raises:
        UsageError: there is no such pool.
    """
    if pool not in POOLS:
        raise UsageError(f"--pool {pool}: there is no such work pool; there: {', '.join(POOLS)}")
    return POOLS[pool]


def flow_names() -> dict[str, tuple[str, str]]:
    """Pool and entrypoint of each flow, by the flow's name."""
    return {
        entrypoint.rpartition(".")[2].replace("_", "-"): (pool, entrypoint)
        for pool, entrypoints in POOLS.items()
        for entrypoint in entrypoints
    }


def load_flow(entrypoint: str) -> Flow[..., Any]:
    """The flow at `package.module.function`."""
    module, _, function = entrypoint.rpartition(".")
    found: Flow[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _deploy(entrypoint: str, pool: str) -> Deployed:
    from prefect.types.entrypoint import EntrypointType

    flow = load_flow(entrypoint)
    deployment: Any = flow.to_deployment(
        pool, work_pool_name=pool, tags=["evoloom"], entrypoint_type=EntrypointType.MODULE_PATH
    )
    # Prefect writes down `module.function` of the flow's function; said here so that a flow made in
    # another module than the one that holds it is found as well.
    deployment.entrypoint = entrypoint
    return Deployed(f"{flow.name}/{pool}", deployment.apply())
