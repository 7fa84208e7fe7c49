"""Prometheus metrics of the service."""

from __future__ import annotations

import time
from collections import Counter as Counts
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from api.run_metrics import RunMetrics

if TYPE_CHECKING:
    from api.service import Service

_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counts requests, and says when asked how the store and its runs are."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "evoloom_http_requests", "Requests answered.", ("method", "route", "status"),
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "evoloom_http_request_seconds", "Seconds from a request's head to the end of its answer.",
            ("route",), registry=self._registry, buckets=_BUCKETS,
        )  # fmt: skip
        self._registry.register(_State(service))
        self._registry.register(RunMetrics(service.runs))

    def observe(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        """Count a request; `route` is its template, so that no id makes a series of its own."""
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class _State:
    """What is looked up when the metrics are read."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        _, runs = self._service.runs.all()
        states = GaugeMetricFamily("evoloom_runs", "Runs of the store.", labels=("kind", "state"))
        for (kind, state), count in Counts((run.kind, run.state) for run in runs).items():
            states.add_metric((kind, state), count)
        yield states
        pending = sum(run.ingest_pending for run in runs)
        yield GaugeMetricFamily("evoloom_runs_ingest_pending", "Runs not in DuckDB yet.", pending)
        waiting = self._service.database.rows(
            "SELECT count(*) FROM run_requests WHERE state = 'queued'"
        )
        yield GaugeMetricFamily("evoloom_runs_queued", "Runs that wait their turn.", waiting[0][0])
        pool = len(self._service.pool)
        yield GaugeMetricFamily("evoloom_seed_tasks", "Seed tasks in the pool.", pool)
        version = self._service.reads.version()
        if version is not None:
            number, _, at = version.partition("-")
            age = time.time() - int(at, 16) / 1e9
            yield GaugeMetricFamily(
                "evoloom_snapshot_generation", "Number of the snapshot.", int(number)
            )
            yield GaugeMetricFamily("evoloom_snapshot_age_seconds", "Seconds since it was published.",
                                    max(0.0, age))  # fmt: skip
