"""Everything that the routes work on, opened once for as long as the service lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from api.caching import Cache
from flows.publishing import publish_store
from flows.serving.commands import Publisher
from flows.serving.downloads import Downloads
from flows.serving.executor import Executor, ProcessExecutor
from flows.serving.pool import SeedPool
from pipeline.config import Settings
from pipeline.errors import UsageError
from store.database import check_store
from store.service.database import ServiceDatabase
from store.service.idempotency import forget_old
from store.service.query import QueryLimits, QueryRunner
from store.service.reads import Reads
from store.service.runs_index import RunsIndex
from store.snapshot import is_current

LOCAL = "local"
"""Who submits where the service runs without keys."""
_TIDY_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service."""

    settings: Settings
    store_path: Path
    database: ServiceDatabase
    pool: SeedPool
    reads: Reads
    runs: RunsIndex
    queries: QueryRunner
    downloads: Downloads
    publisher: Publisher
    executor: Executor
    cache: Cache
    datasets_lock: threading.Lock
    """Held while a dataset version is made, so that a repeated request finds it."""


@contextlib.contextmanager
def open_service(settings: Settings) -> Iterator[Service]:
    """Open a store for serving.

    Raises:
        UsageError: another service has it, or it cannot be used.
    """
    settings = _with_absolute_paths(settings)
    store_path = settings.store.path
    limits = settings.api
    check_store(store_path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_only_one(store_path))
        database = stack.enter_context(ServiceDatabase(store_path))
        forget_old(database, limits.idempotency_hours)
        reads = Reads(store_path)
        stack.callback(reads.close)
        if not is_current(store_path):
            publish_store(store_path)  # so that there is something to read, with the views of today
        publisher = Publisher(store_path, analyse=settings.store.analyse)
        stack.callback(publisher.close)
        executor = make_executor(settings, database, publisher)
        stack.callback(executor.close)
        queries = QueryRunner(
            store_path,
            QueryLimits(
                limits.query_timeout_s, limits.query_max_rows, limits.query_max_bytes,
                limits.query_memory_mb, limits.queries_at_once,
            ),
        )  # fmt: skip
        stack.callback(queries.close)
        downloads = Downloads(store_path)
        stack.callback(downloads.close)
        stack.enter_context(_tidying(database, limits.idempotency_hours))
        pool = SeedPool(database, settings.novelty)
        executor.start()
        yield Service(
            settings, store_path, database, pool, reads, RunsIndex(store_path), queries, downloads,
            publisher, executor, Cache(), threading.Lock(),
        )  # fmt: skip


def make_executor(settings: Settings, database: ServiceDatabase, publisher: Publisher) -> Executor:
    """What executes runs: Prefect where a server is configured, else processes of this machine.

    Raises:
        UsageError: Prefect is asked for and none is configured, or it does not answer.
    """
    choice = settings.api.executor
    url = os.environ.get("PREFECT_API_URL")
    if choice == "prefect" and not url:
        raise UsageError(
            "api.executor is 'prefect', but PREFECT_API_URL is not set: name the server there, or "
            "choose 'process'"
        )
    if choice == "process" or not url:
        return ProcessExecutor(settings, database, publisher)
    from flows.serving.deployments import PrefectExecutor

    return PrefectExecutor(settings, database, publisher)


@contextlib.contextmanager
def _only_one(store_path: Path) -> Iterator[None]:
    """Two services of one store would start its runs twice and not know each other's seed tasks."""
    path = store_path.with_name(f"{store_path.name}.service.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise UsageError(f"store {store_path}: cannot be written: {exc.strerror or exc}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(descriptor, 100, 0).decode("utf-8", "replace").strip()
            raise UsageError(
                f"store {store_path}: another `evoloom serve` has it ({holder}); stop that one, or "
                "name another store with --store"
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _tidying(database: ServiceDatabase, hours: float) -> Iterator[None]:
    """Forget old answers every hour."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(_TIDY_EVERY_S):
            with contextlib.suppress(Exception):
                forget_old(database, hours)

    thread = threading.Thread(target=loop, name="tidying", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _with_absolute_paths(settings: Settings) -> Settings:
    """Processes of the service may be started elsewhere."""
    store = settings.store.model_copy(update={"path": settings.store.path.absolute()})
    return settings.model_copy(update={"store": store})
