"""`evoloom run nightly`: the chain in the foreground, and what is shown of it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from flows.nightly import (
    KIND,
    NightlyEnd,
    NightlyStoppedError,
    StepRow,
    recorded_profile,
    run_nightly,
)
from flows.nightly_steps import ProcessSteps, text_of
from flows.parameters import checked_run_id
from flows.profiles import NightlyProfile, by_section, load_profile, merged, read_profile
from flows.progress import Display
from flows.runs import Listener, new_run_id
from pipeline.config import load_settings
from pipeline.errors import InterruptedRunError, UsageError


def start_nightly(
    path: Path | None,
    run_id: str | None,
    flags: Mapping[str, Any],
    *,
    prefect: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Start a nightly, or go on with it, and print how it ended; leaves with its exit code.

    Args:
        path: the profile; None: the one that the nightly was begun with.
        flags: dotted settings, for all steps.

    Raises:
        UsageError: profile or id cannot be used.
    """
    profile = _profile(path, run_id, flags)
    run_id = checked_run_id(run_id or new_run_id(KIND))
    with Display(quiet=quiet, as_line=text_of, as_table=text_of) as display:
        listener = Listener(lambda record: display.show({"state": "", **record}), display.message)
        if prefect or os.environ.get("PREFECT_API_URL"):
            from flows.prefect_runs import nightly_as_flow

            end = nightly_as_flow(profile, run_id, listener)
        else:
            with _terminable(run_id):
                end = run_nightly(profile, run_id, ProcessSteps(listener), display.message)
    _print(end, as_json=as_json)
    if end.state != "completed":
        raise NightlyStoppedError(end)


class _TerminatedError(BaseException):
    """Raised by SIGTERM. No `Exception`, so that nothing takes it for an error of its own."""


@contextmanager
def _terminable(run_id: str) -> Iterator[None]:
    """SIGTERM stops the step that is executed with grace; between two steps, the nightly."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _TerminatedError(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _TerminatedError as exc:
        raise InterruptedRunError(
            f"nightly {run_id} was stopped ({exc}); `evoloom run nightly --run-id {run_id}` goes on"
        ) from exc
    finally:
        signal.signal(signal.SIGTERM, before)


def _profile(path: Path | None, run_id: str | None, flags: Mapping[str, Any]) -> NightlyProfile:
    settings = by_section(flags)
    if path is not None:
        loaded = load_profile(KIND, path, settings)
        assert isinstance(loaded, NightlyProfile)
        return loaded
    store_path = load_settings(flags).store.path
    begun = recorded_profile(store_path, run_id) if run_id else None
    if begun is None:
        there = f"; there is no nightly {run_id} in {store_path}" if run_id else ""
        raise UsageError(f"--profile FILE is needed{there}")
    values = merged(begun.parameters(), {"settings": settings})
    found = read_profile(KIND, values, f"profile of nightly {run_id}")
    assert isinstance(found, NightlyProfile)
    return found


def _print(end: NightlyEnd, *, as_json: bool) -> None:
    if as_json:
        value = {"run_id": end.run_id, "state": end.state, "message": end.message,
                 "steps": [asdict(row) for row in end.rows]}  # fmt: skip
        typer.echo(json.dumps(value, ensure_ascii=False))
        return
    for text in lines(end.rows):
        typer.echo(text)
    if end.state == "completed":
        typer.echo(end.message)


def lines(rows: tuple[StepRow, ...]) -> list[str]:
    """The steps for a terminal."""
    width = max((len(row.made) for row in rows), default=0)
    found = []
    for row in rows:
        cost = f"  cost {row.cost:.4f}" if row.cost else ""
        found.append(f"{row.step:<14} {row.state:<12} {row.made:<{width}}  {row.counts}{cost}")
        if row.report:
            found.append(f"{'':<14} report {row.report}")
    return found
