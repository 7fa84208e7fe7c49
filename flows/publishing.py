"""The end of every command that changes the store: ingest, publish the snapshot, say what is pending.

Apart from `flows.execution`, so that a command without a teacher does not load the client's libraries.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from flows import logs
from store.database import StoreBusyError
from store.ingest import ingest
from store.snapshot import publish


@dataclass(frozen=True, slots=True)
class Published:
    """What became of the store at the end of a command that writes."""

    pending: str | None
    """Why the live file could not be written, or None."""
    damaged: tuple[str, ...]
    """Run directories that could not be read."""


def publish_store(store_path: Path, wait_s: float | None = None) -> Published:
    """Ingest every spool and publish the snapshot; a held live file leaves `ingest pending`."""
    try:
        report = ingest(store_path, wait_s=wait_s)
        publish(store_path, wait_s=wait_s)
    except StoreBusyError as exc:
        return Published(str(exc), ())
    except (KeyboardInterrupt, RuntimeError) as exc:
        # DuckDB turns a Ctrl-C during a statement into a RuntimeError.
        if isinstance(exc, RuntimeError) and "interrupted" not in str(exc).lower():
            raise
        return Published("cut short by Ctrl-C; the next command that writes ingests it", ())
    return Published(None, tuple(f"{item.run_id}: {item.message}" for item in report.damaged))


def print_published(published: Published) -> None:
    """Say what could not be written to the store, if anything."""
    if published.pending:
        logs.tell(f"ingest pending: {published.pending}", "ingest_pending", logging.WARNING)
    for problem in published.damaged:
        logs.tell(f"not ingested: {problem}", "not_ingested", logging.WARNING)
