"""Tells Prefect how far a run is, and hears whether its flow run was cancelled."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.objects import StateType

from flows.progress import line

_EVERY_S = 5.0
_REQUEST_LIMIT_S = 10.0


class Courier:
    """Goes to the server and back in a thread of its own: a server that is slow or gone holds up
    neither the run nor its display. A context manager."""

    def __init__(
        self, flow_run_id: UUID, key: str, describe: Callable[[dict[str, Any]], str] = line
    ) -> None:
        """
        Args:
            key: of the progress artifact.
            describe: what is said beside the bar; a record's bar is its `share_done`, 0 to 1.
        """
        self.cancelled = threading.Event()
        """Set when the flow run, or one that it is a part of, was cancelled by somebody else."""
        self.is_cut_off = False
        """Whether the server did not answer the last time."""
        self._flow_run_id = flow_run_id
        self._watched: list[UUID] | None = None
        self._key = key
        self._describe = describe
        self._record: dict[str, Any] | None = None
        self._artifact_id: UUID | None = None
        self._shown: dict[str, Any] | None = None
        self._over = threading.Event()
        # Copied, so that the thread has the caller's Prefect settings.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._loop,), name="prefect-progress", daemon=True
        )

    def __enter__(self) -> Courier:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(_REQUEST_LIMIT_S)

    def show(self, record: dict[str, Any]) -> None:
        """Take the latest progress record; older ones that were not told yet never are."""
        self._record = record

    def _loop(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._over.wait(_EVERY_S)
            try:
                with get_client({"timeout": _REQUEST_LIMIT_S}, sync_client=True) as client:
                    self._exchange(client)
                self.is_cut_off = False
            except Exception:  # noqa: BLE001  whatever is wrong with the server, the run goes on
                self.is_cut_off = True

    def _exchange(self, client: SyncPrefectClient) -> None:
        if self._watched is None:
            self._watched = _with_parents(client, self._flow_run_id)
        for flow_run_id in self._watched:
            state = client.read_flow_run(flow_run_id).state
            if state is not None and state.type in (StateType.CANCELLING, StateType.CANCELLED):
                self.cancelled.set()
        record = self._record
        if record is None or record is self._shown:
            return
        share = min(100.0, 100.0 * record["share_done"])
        if self._artifact_id is None:
            artifact = ArtifactCreate(
                type="progress",
                key=self._key,
                description=self._describe(record),
                data=share,
                flow_run_id=self._flow_run_id,
            )
            self._artifact_id = client.create_artifact(artifact).id
        else:
            update = ArtifactUpdate(data=share, description=self._describe(record))
            client.update_artifact(self._artifact_id, update)
        self._shown = record


def _with_parents(client: SyncPrefectClient, flow_run_id: UUID) -> list[UUID]:
    """A flow run and those that it is a step of, the nearest first."""
    found = [flow_run_id]
    while task_run_id := client.read_flow_run(found[-1]).parent_task_run_id:
        parent = client.read_task_run(task_run_id).flow_run_id
        if parent is None:
            break
        found.append(parent)
    return found
