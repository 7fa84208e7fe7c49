"""What `evoloom store check` prints."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from store.checking import CheckReport, check


def print_check(store_path: Path, *, as_json: bool) -> bool:
    """Check a store and print what is wrong; whether anything is."""
    report = check(store_path, on_run=_show)
    _clear()
    if as_json:
        value = {
            "store": str(store_path),
            "findings": [asdict(finding) for finding in report.findings],
            "runs": report.runs,
            "at_work": list(report.at_work),
            "rows": report.rows,
            "pruned": list(report.pruned),
        }
        print(json.dumps(value, ensure_ascii=False))
    else:
        print("\n".join(check_lines(store_path, report)))
    return bool(report.findings)


def check_lines(store_path: Path, report: CheckReport) -> list[str]:
    """The report for people: findings, and how much was looked at."""
    lines = []
    for finding in report.findings:
        lines.append(f"{finding.where}: {finding.what}")
        lines.append(f"    {finding.remedy}")
    counted = ", ".join(f"{report.rows.get(table, 0):,} {table}"
                        for table in ("completions", "instructions", "instances"))  # fmt: skip
    seen = f"{report.runs} runs, {counted}"
    if report.at_work:
        seen += f"; at work, and so looked at as far as ingested: {', '.join(report.at_work)}"
    if report.pruned:
        lines.append(f"pruned, so checked without a journal and not to be derived again: "
                     f"{', '.join(report.pruned)}")  # fmt: skip
    number = len(report.findings)
    found = "nothing is wrong" if not number else f"{number} finding{'s' if number > 1 else ''}"
    return [*lines, f"{store_path}: {found} ({seen})"]


def _show(run_id: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[Kchecking {run_id}")
        sys.stderr.flush()


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
