"""What `evoloom prune` prints."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from flows.retention import PruneReport

_COUNTED = ("young", "resumable")
"""Reasons that are counted where nobody named the run: they are as it should be."""


def print_pruning(
    store_path: Path, report: PruneReport, *, dry_run: bool, are_named: bool, as_json: bool
) -> None:
    """Print what was removed, what was kept and why, and how much was freed."""
    if as_json:
        value = {
            "store": str(store_path),
            "dry_run": dry_run,
            "pruned": [asdict(run) for run in report.pruned],
            "kept": [asdict(run) for run in report.kept],
            "without_journal": report.without_journal,
            "freed_bytes": report.freed_bytes,
        }
        print(json.dumps(value, ensure_ascii=False, default=_utc))
    else:
        print("\n".join(prune_lines(report, dry_run=dry_run, are_named=are_named)))


def prune_lines(report: PruneReport, *, dry_run: bool, are_named: bool) -> list[str]:
    """The report for people.

    Args:
        are_named: somebody named the runs, and is told of each that was kept.
    """
    lines = [
        f"{run.run_id}: {run.state} on {run.ended_at:%Y-%m-%d}, {run.entries:,} answers, "
        f"{run.bytes:,} bytes"
        for run in report.pruned
    ]
    lines += [f"{run.run_id}: kept: {run.message}" for run in report.kept
              if are_named or run.why not in _COUNTED]  # fmt: skip
    if are_named:
        lines += [
            f"{run_id}: has no journal, or gave it up before" for run_id in report.without_journal
        ]
    counts = Counter(str(run.why) for run in report.kept)
    said = {"young": "younger", "resumable": "to be resumed"}
    kept = [f"{counts[why]} {text}" for why, text in said.items() if counts[why]]
    number = len(report.pruned)
    journals = f"{number} journal{'' if number == 1 else 's'}"
    what = "would be removed" if dry_run else "removed"
    return [
        *lines,
        f"{journals} {what}, {report.freed_bytes:,} bytes"
        + (f"; kept: {', '.join(kept)}" if kept and not are_named else ""),
    ]


def _utc(moment: datetime) -> str:
    return f"{moment.isoformat(timespec='milliseconds')}Z"
