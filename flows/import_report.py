"""What the CLI prints about imports: at their end, and in `runs show`."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from flows.importing import Imported, ImportResult
    from store.queries import RunDetail


def print_imports(result: ImportResult, store_path: Path, *, as_json: bool) -> None:
    """Say what became of the files, and what to try next."""
    from flows.publishing import print_published
    from store.run_directory import runs_directory

    if as_json:
        values = [_as_json(item, runs_directory(store_path)) for item in result.imports]
        typer.echo(json.dumps({"store": str(store_path), "imports": values}, ensure_ascii=True))
    else:
        for item in result.imports:
            for line in _lines(item, runs_directory(store_path)):
                typer.echo(line)
    print_published(result.published)
    if not as_json:
        run_id = result.imports[0].run_id
        store = _store_flag(store_path)
        typer.echo("\ntry next")
        typer.echo(f"  evoloom runs show {run_id}{store}")
        typer.echo(f"  evoloom report {run_id}{store} --out report.html")
        typer.echo(f"  evoloom export {run_id}{store} --format alpaca --out dataset.jsonl")
        typer.echo(f"  evoloom run evol-instruct --source {run_id}{store} --rounds 2 --limit 10")


def made_of(detail: RunDetail) -> str:
    """What an import is, in a few words."""
    raw = detail.manifest.raw
    counts = raw["counts"]
    return (
        f"{counts['rows']} rows of {raw['source']['name']} ({raw['import_format']}): "
        f"{counts['instructions']} instructions, {counts['accepted_instances']} instances"
    )


def funnel_lines(detail: RunDetail) -> list[tuple[str, int, int]]:
    """An import's funnel: text, count, depth of indentation."""
    counts = detail.manifest.raw["counts"]
    funnel = detail.funnel
    bad = counts["bad"]
    lines = [("rows", counts["rows"], 0)]
    lines += [(f"bad: {reason}", count, 1) for reason, count in bad.items()]
    lines.append(("instructions", sum(
        funnel.count("instructions", outcome)
        for outcome in ("accepted", "rejected", "without_instances")
    ) - sum(bad.values()), 0))  # fmt: skip
    for outcome in ("rejected", "without_instances"):
        lines += [
            (f"{outcome.replace('_', ' ')}: {reason}", count, 1)
            for reason, count in funnel.reasons("instructions", outcome).items()
            if reason not in bad
        ]
    lines.append(("accepted", funnel.count("instructions", "accepted"), 1))
    lines.append(("not known whether classification", counts["unknown_classification"], 2))
    lines.append(("instances", counts["instances"], 0))
    lines += [
        (f"rejected: {reason}", count, 1)
        for reason, count in funnel.reasons("instances", "rejected").items()
    ]
    lines.append(("accepted", funnel.count("instances", "accepted"), 1))
    lines.append(("exact duplicates of an earlier row", counts["duplicates"], 1))
    return lines


def _lines(item: Imported, runs_dir: Path) -> list[str]:
    from flows.importing import REJECTED, describe_bad_rows

    counts = item.counts
    bad = sum(counts.bad.values())
    told = "detected" if item.is_detected else "as told"
    lines = [
        f"run {item.run_id}: completed",
        f"  {item.file}: {item.format}, {item.container.replace('_', ' ')} ({told})",
    ]
    if item.mapping:
        pairs = ", ".join(f"{field} = {column}" for field, column in item.mapping.items())
        lines.append(f"  columns: {pairs}")
    if item.left_out:
        lines.append(f"  fields left out: {', '.join(item.left_out)}")
    empty = [f"{count} {reason}" for reason, count in counts.empty.items()]
    rejected = f", {', '.join(empty)} rejected" if empty else ""
    lines += [
        f"  rows                    {counts.rows:>9,}",
        f"  instructions            {counts.instructions:>9,}",
        f"  instances               {counts.instances:>9,}{rejected}",
        f"  exact duplicates        {counts.duplicates:>9,}",
        f"  classification unknown  {counts.unknown_classification:>9,}",
        f"  bad rows                {bad:>9,}",
    ]
    if bad:
        lines += ["  " + line for line in describe_bad_rows(item)]
        lines.append(f"    kept in {runs_dir / item.run_id / REJECTED}")
    return lines


def _as_json(item: Imported, runs_dir: Path) -> dict[str, Any]:
    value = asdict(item)
    return {**value, "run_directory": str(runs_dir / item.run_id)}


def _store_flag(store_path: Path) -> str:
    from pipeline.sections import StoreSettings

    default = StoreSettings().path
    return "" if store_path == default else f" --store {shlex.quote(str(store_path))}"
