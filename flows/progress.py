"""What a run says while it goes on: records in `progress.jsonl`, and lines or a table for people."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from flows import logs
from flows.progress_lines import ProgressLines
from pipeline.run.driver import Driver
from pipeline.run.ledger import Ledger, StageSpending
from pipeline.run.machine import Machine
from pipeline.run.senders import Sending
from store.run_writer import HeldRun

_RATE_WINDOW_S = 30.0
_LINE_EVERY_S = 5.0


class ProgressReporter:
    """Writes a progress record every few seconds. Nothing of the run depends on it."""

    def __init__(
        self,
        run: HeldRun,
        machine: Machine,
        on_record: Callable[[dict[str, Any]], None],
    ) -> None:
        self._run = run
        self._machine = machine
        self._on_record = on_record
        self._driver: Driver | None = None
        self._sender: Sending | None = None
        self._more_warnings: Callable[[], Sequence[str]] = tuple
        self._pause_reason: str | None = None
        self._tokens: deque[tuple[float, int]] = deque()

    def warn(self, source: Callable[[], Sequence[str]]) -> None:
        """Report also what `source` warns of."""
        self._more_warnings = source

    def watch(self, driver: Driver, sender: Sending) -> None:
        """Tell it what to report on."""
        self._driver = driver
        self._sender = sender

    def paused(self, reason: str | None) -> None:
        """The run paused (with a reason) or goes on (None): noted at once."""
        self._pause_reason = reason
        state = "paused" if reason else "running"
        self._run.write_state(state, reason)
        self.record(state, reason)

    async def run(self, interval_s: float) -> None:
        """Report until cancelled."""
        while True:
            self.record("paused" if self._pause_reason else "running", self._pause_reason)
            await asyncio.sleep(interval_s)

    def record(self, state: str, reason: str | None = None) -> None:
        """Write one record and show it."""
        assert self._driver is not None and self._sender is not None  # `watch` came first
        progress = self._machine.progress()
        ledger = self._driver.ledger
        in_flight = self._driver.in_flight
        elapsed = self._run.elapsed_s
        share = progress.share_done
        remaining = elapsed / share * (1.0 - share) if share else None
        record = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "state": state,
            "reason": reason,
            "elapsed_s": round(elapsed, 1),
            "remaining_s": None if remaining is None else round(remaining, 1),
            "counted": progress.counted,
            "accepted": progress.accepted,
            "target": progress.target,
            "share_done": round(progress.share_done, 6),
            "stages": {
                stage: {"done": counts.done, "known": counts.known,
                        "in_flight": in_flight.get(stage, 0), **_spent(ledger, stage)}
                for stage, counts in progress.stages.items()
            },
            "rejected": dict(progress.rejected),
            "warnings": [*progress.warnings, *self._more_warnings()],
            "replayed": self._driver.replayed,
            "retries": self._sender.retries,
            "concurrency": self._sender.congestion.limit,
            "concurrency_limit": self._sender.congestion.maximum,
            "prompt_tokens": ledger.usage.prompt_tokens,
            "cached_tokens": ledger.usage.cached_tokens,
            "completion_tokens": ledger.usage.completion_tokens,
            "tokens_per_s": self._rate(ledger.usage.completion_tokens),
            "cost": round(ledger.spent_cost, 6),
        }  # fmt: skip
        record["text"] = line(record)
        self._run.log_progress(record)
        with contextlib.suppress(Exception):  # a display that fails stops no run
            self._on_record(record)

    def _rate(self, completion_tokens: int) -> float:
        now = time.monotonic()
        self._tokens.append((now, completion_tokens))
        while now - self._tokens[0][0] > _RATE_WINDOW_S:
            self._tokens.popleft()
        since, before = self._tokens[0]
        return round((completion_tokens - before) / (now - since), 1) if now > since else 0.0


def _spent(ledger: Ledger, stage: str) -> dict[str, Any]:
    """What a stage has used, over all resumes of the run."""
    spending = ledger.stages.get(stage) or StageSpending()
    return {
        "requests": spending.requests,
        "prompt_tokens": spending.usage.prompt_tokens,
        "cached_tokens": spending.usage.cached_tokens,
        "completion_tokens": spending.usage.completion_tokens,
        "cost": round(spending.cost, 6),
    }


def duration(seconds: float | None) -> str:
    """`1:02:03`, `2:03` or `-`."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def accepted_of(record: dict[str, Any]) -> str:
    """`12/100`, or `12` in a run without a target."""
    target = record["target"]
    return str(record["accepted"]) if target is None else f"{record['accepted']}/{target}"


def slowed_of(record: dict[str, Any]) -> str:
    """`concurrency 4/16` while the teacher is asked less at once than it might be, else nothing."""
    now, most = record.get("concurrency", 0), record.get("concurrency_limit", 0)
    return f"concurrency {now}/{most}" if now < most else ""


def line(record: dict[str, Any]) -> str:
    """A progress record on one line, for logs."""
    stages = "  ".join(
        f"{name} {counts['done']}+{counts['in_flight']}"
        for name, counts in record["stages"].items()
    )
    text = (
        f"[{duration(record['elapsed_s'])}] {record.get('counted', 'accepted')} {accepted_of(record)}  "
        f"{stages} (done+in flight)  {record['tokens_per_s']:.0f} tok/s  "
        f"remaining {duration(record['remaining_s'])}"
    )
    if slowed := slowed_of(record):
        text += f"  {slowed}"
    if record["state"] != "running":
        text += f"  {record['state']}"
        text += f": {record['reason']}" if record["reason"] else ""
    return text


class Display:
    """Shows progress on standard error: a table that redraws on a terminal, else a line every few
    seconds. A context manager."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        as_line: Callable[[dict[str, Any]], str] = line,
        as_table: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        """
        Args:
            as_line, as_table: what a record looks like in a log and on a terminal, where it is not that
                of a run with a teacher.
        """
        self._quiet = quiet
        self._as_line = as_line
        self._as_table = as_table
        self._live: Any = None
        self._last_line = float("-inf")
        self._last_state = ""
        self._lines = ProgressLines()

    def __enter__(self) -> Display:
        if not self._quiet and sys.stderr.isatty() and not logs.is_json():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *unused: object) -> None:
        if self._live is not None:
            self._live.stop()

    def message(self, text: str) -> None:
        """A line of its own, such as what the engine's start is doing."""
        if self._quiet:
            return
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            logs.tell(text)

    def show(self, record: dict[str, Any]) -> None:
        """Show a record; in a log only every few seconds, but each change of state."""
        if self._quiet:
            return
        if self._live is not None:
            self._live.update((self._as_table or _table)(record))
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_S or record["state"] != self._last_state:
            self._last_line, self._last_state = now, record["state"]
            if logs.is_json():
                self._lines.tell(record, self._as_line(record))
            else:
                logs.tell(self._as_line(record))


def _table(record: dict[str, Any]) -> Any:
    from rich.table import Table

    title = f"{record.get('counted', 'accepted')} {accepted_of(record)}"
    if record["state"] != "running":
        title += f"  ({record['state']})"
    caption = (
        f"{record['tokens_per_s']:.0f} tok/s   elapsed {duration(record['elapsed_s'])}   "
        f"remaining {duration(record['remaining_s'])}   retries {record['retries']}"
    )
    if slowed := slowed_of(record):
        caption += f"   {slowed}"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    table.add_column("stage")
    for name in ("done", "in flight", "waiting"):
        table.add_column(name, justify="right")
    for stage, counts in record["stages"].items():
        waiting = max(0, counts["known"] - counts["done"] - counts["in_flight"])
        table.add_row(stage, str(counts["done"]), str(counts["in_flight"]), str(waiting))
    return table
