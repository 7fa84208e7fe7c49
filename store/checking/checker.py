"""Goes through a store; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from pipeline.errors import EvoloomError, UsageError
from store.checking.findings import Finding, Remedies
from store.checking.references import check_references
from store.checking.runs import check_run
from store.checking.snapshots import check_snapshot
from store.compacting import fingerprint, tables
from store.database import StoreBusyError, create_database, quoted
from store.live_copy import open_copy
from store.run_directory import PRUNED, list_run_ids, runs_directory
from store.run_writer import is_held


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found, and of how much: runs, and rows by table."""

    findings: tuple[Finding, ...]
    runs: int
    at_work: tuple[str, ...]
    """Runs that a process was executing: what they have written since is not counted missing."""
    rows: dict[str, int]
    pruned: tuple[str, ...] = ()
    """Runs that gave up their journal: they are compared without it, and cannot be derived again."""


def check(store_path: Path, *, on_run: Callable[[str], None] = lambda run_id: None) -> CheckReport:
    """Compare run directories, live file and snapshot.

    Args:
        on_run: is told each run before it is looked at.

    Raises:
        StoreBusyError: another process has the live file open.
        UsageError: there is no store.
    """
    runs_dir = runs_directory(store_path)
    run_ids = list_run_ids(runs_dir)
    remedies = Remedies(store_path)
    if not store_path.exists():
        if not run_ids:
            raise UsageError(f"store {store_path}: there is none; name one with --store")
        finding = Finding(
            str(store_path), f"is missing, though there are {len(run_ids)} runs", remedies.rebuild
        )
        return CheckReport((finding,), len(run_ids), (), {})
    findings: list[Finding] = []
    rows: dict[str, int] = {}
    at_work = {run_id for run_id in run_ids if is_held(runs_dir / run_id)}
    try:
        with open_copy(store_path) as copy:
            written_at = store_path.stat().st_mtime_ns
            # A run that began or ended just now.
            run_ids = list_run_ids(runs_dir)
            at_work |= {run_id for run_id in run_ids if is_held(runs_dir / run_id)}
            rows = {table: fingerprint(copy, table)[0] for table in tables(copy)}
            findings += _without_directory(copy, runs_dir, remedies)
            findings += check_references(copy, remedies)
            found = list(check_snapshot(store_path, copy, remedies, is_at_work=bool(at_work)))
            if store_path.stat().st_mtime_ns == written_at:
                findings += found  # else somebody has published meanwhile
            with _scratch(copy) as scratch:
                for run_id in run_ids:
                    on_run(run_id)
                    findings += check_run(
                        scratch, runs_dir / run_id, remedies, is_at_work=run_id in at_work
                    )
    except StoreBusyError:
        raise
    except (EvoloomError, duckdb.Error) as exc:
        findings.append(Finding(str(store_path), str(exc), remedies.rebuild))
    pruned = tuple(run_id for run_id in run_ids if (runs_dir / run_id / PRUNED).exists())
    return CheckReport(tuple(findings), len(run_ids), tuple(sorted(at_work)), rows, pruned)


def _without_directory(
    copy: duckdb.DuckDBPyConnection, runs_dir: Path, remedies: Remedies
) -> Iterator[Finding]:
    there = set(list_run_ids(runs_dir))
    for (run_id,) in copy.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall():
        if run_id not in there:
            yield Finding(
                f"run {run_id}",
                "is in the database, but its run directory is gone",
                f"{remedies.restore}, or {remedies.rebuild} to drop its rows",
            )


@contextmanager
def _scratch(copy: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """The connection with an empty, migrated database, `scratch`, beside `live`, and in its place."""
    with TemporaryDirectory(prefix="evoloom-check-") as folder:
        path = Path(folder) / "scratch.duckdb"
        create_database(path, path).close()
        copy.execute(f"ATTACH {quoted(path)} AS scratch")
        copy.execute("USE scratch")
        try:
            yield copy
        finally:
            copy.execute("USE live")
            copy.execute("DETACH scratch")
