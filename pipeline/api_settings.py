"""Settings of the REST service, `evoloom serve`. They decide nothing about data."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    field_validator,
)


class ApiSettings(BaseModel):
    """The REST service."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on. Another than loopback needs a key (`evoloom keys create`)."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one and prints it."""
    auth: Literal["keys", "off"] = "keys"
    """`keys`: every route but /v1/health needs one. `off`, on loopback only: whoever reaches the
    port may do everything."""
    admin_key: SecretStr | None = None
    """A key that may do everything, in the form `evk_ID_SECRET` (scripts/make-secrets.sh makes one), so
    that a service in a container has one from its first start. Another in its place revokes it. Unset:
    only the keys that `evoloom keys create` has made."""
    executor: Literal["auto", "process", "prefect"] = "auto"
    """What executes runs: `prefect`, the deployments of the work pool `cpu` on the server that
    PREFECT_API_URL names; `process`, supervised processes of this machine; `auto`: the former where
    a server is configured."""
    worker: bool = True
    """Whether the service has a worker of the pool `cpu` of its own, where runs are Prefect's; off
    where `evoloom worker` runs beside it."""
    runs_at_once: PositiveInt = 1
    """Runs that are executed at the same time; further ones wait their turn. Where a worker beside
    the service executes them, its `--limit` says how many."""
    max_target: PositiveInt = 100_000
    """Largest target of a run."""
    max_batch: PositiveInt = 1000
    """Most seed tasks in one request, and most members of a seed set that are named one by one."""
    max_body_bytes: PositiveInt = 16 * 2**20
    """Largest body of a request, in bytes."""
    max_header_bytes: int = Field(default=16 * 2**10, ge=1024)
    """Largest head of a request (address and headers together), in bytes."""
    max_text_chars: PositiveInt = 20_000
    """Longest text of a seed task (instruction, input, output) and longest SQL, in characters."""
    max_streams: PositiveInt = 64
    """Event streams that are open at once."""
    rate_per_s: PositiveFloat = 100.0
    """Requests a second that a key may make in the long run; without keys, that an address may."""
    rate_burst: PositiveInt = 200
    """Requests that it may make at once after a pause."""
    cors_origins: tuple[str, ...] = ()
    """Web pages of other origins that may call the service, such as `https://notes.example.org`."""
    idempotency_hours: PositiveFloat = 24.0
    """How long the answer to a request with an `Idempotency-Key` is remembered, in hours."""
    query_timeout_s: PositiveFloat = 30.0
    """Longest time that an SQL query may take, in seconds."""
    query_max_rows: PositiveInt = 10_000
    """Most rows that an SQL query returns."""
    query_max_bytes: PositiveInt = 16 * 2**20
    """Largest result of an SQL query as JSON, in bytes."""
    query_memory_mb: int = Field(default=1024, ge=64)
    """Memory that DuckDB may take for one SQL query, in megabytes."""
    queries_at_once: PositiveInt = 2
    """SQL queries that are executed at the same time; further ones are refused."""
    grace_s: NonNegativeFloat = 10.0
    """Seconds given to requests in flight when the service is told to stop. Runs go on."""

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
                raise ValueError(
                    f"{value!r}: an origin is a scheme and a host, such as https://notes.example.org"
                )
        return values
