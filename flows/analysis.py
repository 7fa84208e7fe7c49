"""Bringing the analysts' store up to date: what each instruction asks for, how near its neighbours
are. Worked out after a run, so that no run waits for it; each text is parsed once, ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from flows import logs
from flows.publishing import Published
from flows.scoring import Neighbours, Scores, scores_frame
from pipeline.config import Settings, load_settings
from pipeline.diversity import PARSER_VERSION, Method, VerbNoun
from pipeline.diversity.pooling import parse_chunks
from pipeline.diversity.verb_noun import CHUNK
from pipeline.errors import EvoloomError
from store import analysis
from store.run_directory import read_manifest, runs_directory
from store.snapshot import publish

if TYPE_CHECKING:
    import polars as pl

METHODS: tuple[Method, ...] = ("mended", "published")
_TEXTS_A_PROCESS = 2000  # fewer do not pay for loading the model once more
_WRITE_EVERY_S = 10.0
_SCORED_AT_ONCE = 256
_WAIT_S = 60.0
"""Patience with another process that is analysing the store."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far an analysis is: `done` of `total` texts parsed, or of a run's instructions scored."""

    done: int
    total: int
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Analysed:
    """What an analysis did: distinct texts parsed, instructions scored by run; `at_work` are runs
    whose novelty waits until they end."""

    parsed: int
    scored: dict[str, int]
    at_work: tuple[str, ...]


OnStep: TypeAlias = Callable[[Step], None]
_Parsed: TypeAlias = tuple[str, Method, VerbNoun]


def analyse_store(
    store_path: Path,
    run_ids: Sequence[str] | None = None,
    processes: int | None = None,
    on_step: OnStep = lambda step: None,
    wait_s: float = _WAIT_S,
) -> Analysed:
    """Parse and score what the published snapshot lacks, and publish it.

    May be interrupted: what was written stays, and the next analysis goes on there.

    Args:
        run_ids: the runs; None for all.
        processes: how many to parse with; None for one a core.
        wait_s: patience with another process that analyses this store.

    Raises:
        AnalysisTakenError: another process is at it.
        StoreBusyError: another process has the live file open.
    """
    with analysis.analysis_lock(store_path, wait_s):
        written = _Written()
        try:
            parsed = _parse(store_path, run_ids, processes, on_step, written)
            scored = {
                run.run_id: _score(store_path, run.run_id, on_step, written)
                for run in analysis.runs_to_score(store_path, run_ids)
            }
        finally:
            if written.anything:
                publish(store_path)
        return Analysed(parsed, scored, tuple(analysis.runs_at_work(store_path, run_ids)))


def analyse_after(
    store_path: Path,
    run_id: str,
    settings: Settings,
    message: Callable[[str], None] = lambda text: None,
) -> None:
    """Analyse a run that has just ended and been published, if the settings say so. Whatever goes
    wrong is told, and the run has ended as it has."""
    if not settings.store.analyse:
        return
    left = f"`evoloom store analyse {run_id} --store {store_path}`"
    told = Announcer(
        message,
        f"analysing {run_id}",
        first=f"{run_id} is complete and published; its verb-noun pairs and novelty scores are being "
        f"worked out. Ctrl-C leaves the rest to {left}",
    )
    try:
        analyse_store(store_path, [run_id], settings.store.analyse_processes, told)
    except KeyboardInterrupt:
        message(f"the analysis of {run_id} was cut short; {left} goes on with it")
    except Exception as exc:  # noqa: BLE001  it never fails a run that has ended
        message(f"{run_id} is not analysed ({exc}); {left} does it")


def analyse_made(store_path: Path, run_ids: Sequence[str], published: Published) -> None:
    """`analyse_after` of what a command has made, under the settings in force; told on standard
    error. What is not in the snapshot is left to `evoloom store analyse`."""
    if published.pending is not None:
        return
    settings = load_settings()
    for run_id in run_ids:
        analyse_after(store_path, run_id, settings, logs.tell_by_name)


class Announcer:
    """Tells how far a long analysis is: a line now and then, nothing of a short one.

    `first` comes before the first of these lines.
    """

    def __init__(
        self, message: Callable[[str], None], head: str = "analysing", first: str | None = None
    ) -> None:
        self._message = message
        self._head = head
        self._first = first
        self._told_at = time.monotonic()

    def __call__(self, step: Step) -> None:
        """Take a step."""
        now = time.monotonic()
        if now - self._told_at < _WRITE_EVERY_S or step.done == step.total:
            return
        self._told_at = now
        if self._first is not None:
            self._message(self._first)
            self._first = None
        what = "instructions parsed" if step.run_id is None else f"of {step.run_id} scored"
        self._message(f"{self._head}: {step.done:,} of {step.total:,} {what}")


@dataclass(slots=True)
class _Written:
    anything: bool = False


def _parse(
    store_path: Path,
    run_ids: Sequence[str] | None,
    processes: int | None,
    on_step: OnStep,
    written: _Written,
) -> int:
    total = analysis.count_unparsed(store_path, METHODS, PARSER_VERSION, run_ids)
    if not total:
        return 0
    waiting: list[_Parsed] = []

    def flush() -> None:
        if waiting:
            analysis.write_parses(store_path, PARSER_VERSION, parses_frame(waiting))
            written.anything = True
            waiting.clear()

    texts = analysis.read_unparsed(store_path, METHODS, PARSER_VERSION, run_ids, CHUNK)
    done, written_at = 0, time.monotonic()
    with _kept_on_interrupt(flush):
        for chunk, found in parse_chunks(texts, METHODS, _processes(processes, total)):
            waiting += [
                (text, method, record)
                for method, records in zip(METHODS, found, strict=True)
                for text, record in zip(chunk, records, strict=True)
            ]
            done += len(chunk)
            if time.monotonic() - written_at > _WRITE_EVERY_S:
                flush()
                written_at = time.monotonic()
            on_step(Step(done, total))
        flush()
    return done


def parses_frame(parsed: Sequence[_Parsed]) -> pl.DataFrame:
    """(text, method, answer) as `store.analysis.write_parses` takes them."""
    import polars as pl

    rows = [
        {
            "text": text,
            "method": method,
            "parser_version": PARSER_VERSION,
            "kind": record.kind,
            "verb": record.verb,
            "noun": record.noun,
            "question_word": record.question_word,
            "further": [{"verb": verb, "noun": noun} for verb, noun in record.also],
        }
        for text, method, record in parsed
    ]
    return pl.DataFrame(rows, schema=analysis.PARSES)


def _score(store_path: Path, run_id: str, on_step: OnStep, written: _Written) -> int:
    pool = analysis.read_pool(store_path, run_id)
    manifest = read_manifest(runs_directory(store_path) / run_id)
    neighbours = Neighbours(manifest, pool["id"].to_list(), pool["text"].to_list())
    missing = [place for place, done in enumerate(pool["is_scored"].to_list()) if not done]
    waiting: list[Scores] = []

    def flush() -> None:
        if waiting:
            analysis.write_scores(store_path, run_id, scores_frame(run_id, waiting, pool.height))
            written.anything = True
            waiting.clear()

    written_at = time.monotonic()
    with _kept_on_interrupt(flush):
        for start in range(0, len(missing), _SCORED_AT_ONCE):
            waiting += neighbours.score(missing[start : start + _SCORED_AT_ONCE])
            if time.monotonic() - written_at > _WRITE_EVERY_S:
                flush()
                written_at = time.monotonic()
            on_step(Step(min(start + _SCORED_AT_ONCE, len(missing)), len(missing), run_id))
        flush()
    return len(missing)


@contextmanager
def _kept_on_interrupt(flush: Callable[[], None]) -> Iterator[None]:
    """Write what was worked out when Ctrl-C comes; where that fails, Ctrl-C it is all the same."""
    try:
        yield
    except (KeyboardInterrupt, RuntimeError) as exc:
        # DuckDB turns a Ctrl-C during a statement into a RuntimeError.
        if isinstance(exc, RuntimeError) and "interrupted" not in str(exc).lower():
            raise
        with suppress(EvoloomError, RuntimeError):
            flush()
        raise KeyboardInterrupt from exc


def _processes(wanted: int | None, texts: int) -> int:
    most = wanted or len(os.sched_getaffinity(0))
    return max(1, min(most, texts // _TEXTS_A_PROCESS))
