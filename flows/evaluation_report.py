"""An evaluation's results for people: the page, lines for the terminal, Markdown for Prefect."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from store.checked_lines import write_atomically
from store.evaluations import REPORT

if TYPE_CHECKING:
    from flows.evaluation import EvaluationResult
    from flows.evaluation_results import Results
    from store.queries import RunDetail

_EXAMPLES_SHOWN = 3
_WIDTH = 100


def render_report(results: Results) -> bytes:
    """The page; it needs no network and no other file."""
    from flows.reporting.evaluation import draw_evaluation, facts
    from flows.reporting.page import render_document

    return render_document(
        f"Evaluation of {results.training}",
        f"from evaluation {results.run_id}",
        [(results.training, facts(results))],
        draw_evaluation(results),
        version("evoloom"),
    ).encode("utf-8", "replace")


def write_report(run_dir: Path, results: Results) -> None:
    """Leave the page in the run directory."""
    write_atomically(run_dir / REPORT, render_report(results))


def print_result(result: EvaluationResult, *, as_json: bool) -> None:
    """Say how the tuned student compares with its base."""
    import json
    from dataclasses import asdict

    from flows.publishing import print_published

    results = result.results
    if as_json:
        value = asdict(results)
        del value["examples"]
        value |= {"state": "completed", "run_directory": str(result.run_dir),
                  "report": str(result.run_dir / REPORT)}  # fmt: skip
        typer.echo(json.dumps(value, ensure_ascii=False))
        print_published(result.published)
        return
    for line in lines(results):
        typer.echo(line)
    print_published(result.published)
    typer.echo(f"\nreport {result.run_dir / REPORT}")


def lines(results: Results) -> list[str]:
    """The results for a terminal."""
    from flows.reporting.evaluation import SERVING, applied, headlines, measure_of, verdict_on

    found = [
        f"evaluation {results.run_id} of training {results.training} ({results.method} on "
        f"{results.base}, dataset {results.dataset})",
        f"  served as {SERVING[results.serving]}",
        f"  {applied(results)}",
        "",
        f"  {'':<52} {'items':>6} {'base':>8} {'tuned':>8}  difference "
        f"[{100 * results.bootstrap.confidence:g}%]",
    ]
    for one in headlines(results):
        name, factor, _ = measure_of(one)
        interval = one.interval
        label = f"{one.name}, {name}"
        found.append(
            f"  {label[:52]:<52} {one.items:>6} {one.base * factor:>8.2f} "
            f"{one.tuned * factor:>8.2f}  {interval.difference * factor:+.2f} "
            f"[{interval.low * factor:.2f}, {interval.high * factor:.2f}]  {verdict_on(one)}"
        )
        if one.notes:
            found.append("    " + ", ".join(f"{count} {text}" for text, count in one.notes.items()))
    found += [
        f"  {count} of {results.asked[file.number]} items of {file.name} are in the training data; the "
        "report has the scores without them"
        for file in results.files
        if (count := results.contaminated.get(file.number))
    ]
    return found


def markdown(results: Results) -> str:
    """The results as a Prefect artifact shows them."""
    from flows.reporting.evaluation import SERVING, applied, headlines, measure_of, verdict_on

    rows = [
        f"# Evaluation of {_cell(results.training)}",
        f"{_cell(results.method)} on {_cell(results.base)}, dataset {_cell(results.dataset)}; served "
        f"as {SERVING[results.serving]}; {applied(results)}.",
        "",
        f"| what | metric | items | base | tuned | difference | "
        f"{100 * results.bootstrap.confidence:g}% interval | tuned is |",
        "|---|---|---:|---:|---:|---:|---|---|",
    ]
    for one in headlines(results):
        name, factor, _ = measure_of(one)
        interval = one.interval
        rows.append(
            f"| {_cell(one.name)} | {_cell(name)} | {one.items} | {one.base * factor:.2f} | "
            f"{one.tuned * factor:.2f} | {interval.difference * factor:+.2f} | "
            f"{interval.low * factor:.2f} to {interval.high * factor:.2f} | {verdict_on(one)} |"
        )
    for outcome in ("won", "lost"):
        chosen = [shown for shown in results.examples if shown.outcome == outcome]
        chosen = chosen[:_EXAMPLES_SHOWN]
        if chosen:
            rows += ["", f"## {outcome.capitalize()}"]
        for shown in chosen:
            rows += [
                "",
                f"- **{_cell(shown.instruction)}** {_cell(shown.input)}",
                f"  - base: {_cell(shown.base_answer)}",
                f"  - tuned: {_cell(shown.tuned_answer)}",
            ]
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    """A text of the data in Markdown: on one line, nothing in it taken for markup."""
    flat = " ".join(text.split())
    flat = flat if len(flat) <= _WIDTH else flat[: _WIDTH - 1] + "…"
    for character in "\\`*_|<>[]#~":
        flat = flat.replace(character, f"\\{character}")
    return flat


def made_of(detail: RunDetail) -> str:
    """What an evaluation is, for `evoloom runs show`."""
    raw: dict[str, Any] = detail.manifest.raw
    return f"training {raw['training']} against its base {raw['base']['name']}"


def funnel_lines(detail: RunDetail) -> list[tuple[str, int, int]]:
    """The items asked, for `evoloom runs show`."""
    raw: dict[str, Any] = detail.manifest.raw
    return [
        (f"items of {file['name']}", found["items"], 0)
        for file, found in zip(raw["files"], raw["contamination"]["files"], strict=True)
    ]
