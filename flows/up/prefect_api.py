"""What `evoloom up` asks Prefect's server over HTTP, without importing Prefect."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

_TIMEOUT_S = 5.0


class PrefectApi:
    """A Prefect server."""

    def __init__(self, url: str, timeout_s: float = _TIMEOUT_S) -> None:
        self.url = url
        self._client = httpx.Client(headers=_authorization(os.environ), timeout=timeout_s)

    def is_healthy(self) -> bool:
        """Whether it answers."""
        try:
            return self._client.get(f"{self.url}/health").is_success
        except httpx.HTTPError:
            return False

    def last_heartbeat(self, pool: str, worker: str) -> datetime | None:
        """When a worker was last heard of, UTC; None where it never was.

        Raises:
            httpx.HTTPError: the server cannot be asked.
        """
        path = f"work_pools/{pool}/workers/filter"
        response = self._client.post(f"{self.url}/{path}", json={})
        if response.status_code == httpx.codes.NOT_FOUND:  # the pool is made by the worker
            return None
        for row in response.raise_for_status().json():
            if row["name"] == worker and row["last_heartbeat_time"]:
                return parse_time(row["last_heartbeat_time"])
        return None

    def flow_runs(
        self, *, tags: list[str], states: list[str] | None = None
    ) -> list[dict[str, Any]]:
        """The flow runs that have all these tags, the newest first.

        Raises:
            httpx.HTTPError: the server cannot be asked.
        """
        chosen: dict[str, Any] = {"tags": {"all_": tags}}
        if states:
            chosen["state"] = {"type": {"any_": states}}
        body = {"sort": "EXPECTED_START_TIME_DESC", "flow_runs": chosen}
        rows: list[dict[str, Any]] = self._post("flow_runs/filter", body)
        return rows

    def set_state(self, flow_run_id: str, state: Mapping[str, Any]) -> str:
        """Give a flow run a state, past the server's rules; returns what became of it, such as
        ACCEPT.

        Raises:
            httpx.HTTPError: the server cannot be asked.
        """
        body = {"state": dict(state), "force": True}
        return str(self._post(f"flow_runs/{flow_run_id}/set_state", body)["status"])

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._client.post(f"{self.url}/{path}", json=body).raise_for_status().json()


def parse_time(text: str) -> datetime:
    """A time as the server writes it."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """As Prefect's own client does it: a key, or name and password."""
    if key := environment.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if text := environment.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
    return {}
