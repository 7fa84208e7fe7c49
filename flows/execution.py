"""Executes a held run in this process: replay, ask, derive, ingest, publish."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from flows.pacing import Pace
from flows.progress import ProgressReporter
from flows.publishing import Published as Published
from flows.publishing import publish_store as publish_store
from pipeline.config import Settings
from pipeline.errors import EvoloomError, InterruptedRunError
from pipeline.records import Address
from pipeline.run.driver import Driver, RunEnd, Sink
from pipeline.run.journal import Journal
from pipeline.run.ledger import Ledger
from pipeline.run.machine import Machine
from pipeline.run.sender import Sender, Teacher
from pipeline.run.senders import Sending, StageSenders
from pipeline.teacher.engine import lease_engine
from pipeline.teacher.places import (
    StageTeachers,
    TeacherPlace,
    connect,
    find_models,
    needs_teacher,
)
from store.database import StoreBusyError
from store.ingest import ingest
from store.run_writer import HeldRun
from store.snapshot import publish

_INGEST_PATIENCE_S = 2.0


@contextlib.contextmanager
def open_teacher(
    settings: Settings,
    on_message: Callable[[str], None] = lambda text: None,
    stages: Sequence[str] = (),
) -> Iterator[TeacherPlace]:
    """The configured endpoints, or the local engine for as long as the context lasts; checked.

    Args:
        stages: those that ask; what is set for single ones of them counts.

    Raises:
        TeacherSetupError: unreachable, key refused, model not served.
        EngineError: the local engine does not start.
    """
    with contextlib.ExitStack() as stack:
        addresses = settings.teacher.addresses
        if not needs_teacher(settings.teacher, stages):
            addresses = ()
        elif not addresses:
            engine = stack.enter_context(lease_engine(settings.engine, on_progress=on_message))
            addresses = (engine.base_url,)
        yield TeacherPlace(addresses, find_models(settings.teacher, addresses, stages, on_message))


def execute(
    run: HeldRun,
    machine: Machine,
    settings: Settings,
    place: TeacherPlace,
    store_path: Path,
    *,
    give_up: frozenset[Address] = frozenset(),
    on_progress: Callable[[dict[str, Any]], None] = lambda record: None,
) -> RunEnd:
    """Execute a run until its end or interruption; its state is written, its rows are ingested
    unless somebody holds the live file.

    Raises:
        EvoloomError: the run cannot go on; its state says why.
    """
    ingester = Ingester(run, store_path, settings.store.ingest_interval_s)
    try:
        run.write_state("running")
        with ingester:
            end = asyncio.run(_drive(run, machine, settings, place, give_up, on_progress))
        run.spool.sync()
        run.write_state(end.state, end.reason)
    except OSError as exc:
        error = _unwritable(run, exc)
        _note_failure(run, error)
        raise error from exc
    except BaseException as exc:
        _note_failure(run, exc)
        raise
    return end


def _note_failure(run: HeldRun, error: BaseException) -> None:
    is_interrupted = isinstance(error, (KeyboardInterrupt, InterruptedRunError))
    # A disk that is full may hold no state either: then it stays what it was, as after a kill.
    with contextlib.suppress(OSError):
        run.write_state(
            "interrupted" if is_interrupted else "failed", str(error) or type(error).__name__
        )


def _unwritable(run: HeldRun, error: OSError) -> InterruptedRunError:
    return InterruptedRunError(
        f"run {run.path.name}: writing to {run.path} failed ({error.strerror or error}); what "
        f"was journaled is safe. Make room, then `evoloom resume {run.path.name}`"
    )


async def _drive(
    run: HeldRun,
    machine: Machine,
    settings: Settings,
    place: TeacherPlace,
    give_up: frozenset[Address],
    on_progress: Callable[[dict[str, Any]], None],
) -> RunEnd:
    async with connect(place, settings.teacher) as teachers:
        return await drive(run, machine, settings, teachers, give_up, on_progress)


class DrainableJournal(Journal, Protocol):
    """A journal whose last entries can be waited for."""

    async def drain(self) -> None:
        """Return when nothing is waiting to be written."""
        ...


async def drive(
    run: HeldRun,
    machine: Machine,
    settings: Settings,
    teacher: Teacher,
    give_up: frozenset[Address] = frozenset(),
    on_progress: Callable[[dict[str, Any]], None] = lambda record: None,
    *,
    journal: DrainableJournal | None = None,
    sink: Sink | None = None,
) -> RunEnd:
    """Drive a machine with a held run's journal and spool to its end or interruption; the run's
    state is the caller's to write, but for pauses.

    Args:
        teacher: who answers: a client, or a student.
        journal, sink: where answers and rows go instead of the run's journal and spool.

    Raises:
        EvoloomError: the machine cannot go on.
        InterruptedRunError: the run directory cannot be written, as where the disk is full.
    """
    reporter = ProgressReporter(run, machine, on_progress)
    sender: Sending = Sender(teacher, settings.teacher, reporter.paused)
    if isinstance(teacher, StageTeachers):
        reporter.warn(teacher.warnings)
        sender = StageSenders(teacher.default, teacher.stages, settings.teacher, reporter.paused)
    own: DrainableJournal = run.journal if journal is None else journal
    driver = Driver(
        machine,
        own,
        sender,
        Ledger(settings.caps, settings.prices),
        sink or run.spool,
        grace_s=settings.run.grace_s,
        give_up=give_up,
    )
    reporter.watch(driver, sender)
    reporting = asyncio.create_task(reporter.run(settings.run.progress_interval_s))
    try:
        with _signals(driver):
            end = await driver.run()
    except OSError as exc:
        raise _unwritable(run, exc) from exc
    finally:
        reporting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reporting
        await own.drain()
    reporter.record(end.state, end.reason)
    return end


@contextlib.contextmanager
def _signals(driver: Driver) -> Iterator[None]:
    """SIGTERM and SIGINT stop the run with grace; a second one stops it now."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        loop.add_signal_handler(number, driver.stop, number.name)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)  # which leaves the default, not what was there
            if handler is not None:
                signal.signal(number, handler)


class Ingester:
    """Ingests the run every few seconds, in a thread, so that analysts see it grow."""

    def __init__(self, run: HeldRun, store_path: Path, interval_s: float) -> None:
        self._run = run
        self._store_path = store_path
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="ingest", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *unused: object) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        pace = Pace(self._interval_s)
        began = time.monotonic()
        while not self._stop.wait(pace.pause(time.monotonic() - began)):
            started = time.monotonic()
            # A store that is held or broken never stops a run: the spool keeps everything. What is
            # wrong with the run directory itself shows when the run writes there.
            try:
                self._run.spool.sync()
                ingest(self._store_path, [self._run.path.name], wait_s=_INGEST_PATIENCE_S)
                publish(self._store_path, wait_s=_INGEST_PATIENCE_S)
            except StoreBusyError:
                continue  # waiting cost the run nothing
            except (EvoloomError, OSError):
                pass
            pace.add(time.monotonic() - started)


def exit_code(end: RunEnd) -> int:
    """The exit code of a run's end (DESIGN.md, exit codes)."""
    if end.state == "completed":
        return 0
    if end.state == "ceiling":
        return 1
    if end.reason == "SIGINT":
        return 130
    return end.error.exit_code if end.error else 75
