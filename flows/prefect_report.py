"""What a flow leaves in Prefect about its run: a Markdown report, and one sentence for its state."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from flows.costs import money_text, share_text, stage_costs, whole_cost
from flows.evol_report import operator_lines, round_lines
from flows.progress import duration
from flows.report import made_of
from pipeline.run.driver import RunEnd
from store.queries import RunDetail, show_run


def ending(store_path: Path, run_id: str, end: RunEnd) -> str:
    """How a run ended and how to go on, in a sentence or two."""
    command = f"`evoloom resume {run_id} --store {shlex.quote(str(store_path))}`"
    if end.state == "completed":
        return f"run {run_id} is completed"
    if end.state == "ceiling":
        return (
            f"run {run_id} reached its ceiling of generation completions with fewer instructions "
            "than asked for; what there is can be exported. A higher run.ceiling, a better teacher "
            "or more seeds give more"
        )
    if end.reason == "cap":
        return (
            f"run {run_id} stands at its cap (caps.tokens or caps.cost). {command[:-1]} --set "
            "caps.cost=AMOUNT`, or caps.tokens, with a higher one goes on where it stopped"
        )
    why = f"{end.reason}: {end.error}".replace("RUN", run_id) if end.error else end.reason
    return (
        f"run {run_id} was interrupted ({why}). Nothing that was paid for is lost: {command}, a retry "
        "of this flow run, or a flow run with the same run_id goes on where it stopped"
    )


def run_report(store_path: Path, run_id: str, end: RunEnd) -> str:
    """The report of a run, in Markdown."""
    detail = show_run(store_path, run_id)
    run = detail.summary
    state = run.state + (f" ({run.reason})" if run.reason else "")
    parts = [
        f"# Run {run_id}: {state}",
        f"{made_of(detail)}; "
        f"{duration(run.elapsed_s)} of work; model {detail.manifest.raw.get('model')}, "
        f"run seed {detail.manifest.run_seed}.",
        "## Funnel",
        _funnel(detail),
        _method(detail),
        "## Tokens and cost",
        _usage(detail),
        "## How to go on",
        _next(store_path, run_id, end),
    ]
    return "\n\n".join(parts) + "\n"


def _method(detail: RunDetail) -> str:
    if not detail.evolution:
        return f"Prompts that held two generated shots: {detail.prompts_with_two_machine_shots}."
    lines = [*round_lines(detail.evolution), "", *operator_lines(detail.evolution)]
    return "\n".join(f"    {line}" for line in lines)


def _funnel(detail: RunDetail) -> str:
    rows = [
        (row.subject, row.stage, row.outcome, row.reason or "", str(row.count))
        for row in detail.funnel.rows
    ]
    return markdown_table(("of", "stage", "outcome", "reason", "count"), rows)


def _usage(detail: RunDetail) -> str:
    rows = [
        (cost.stage, cost.model, str(cost.requests), str(cost.usage.prompt_tokens),
         str(cost.usage.cached_tokens), share_text(cost.cached_share),
         str(cost.usage.completion_tokens), money_text(cost.cost), money_text(cost.per_accepted))
        for cost in [*stage_costs(detail), whole_cost(detail)]
    ]  # fmt: skip
    return markdown_table(
        ("stage", "model", "requests", "prompt", "cached", "cached share", "completion", "cost",
         "cost an accepted"), rows,
    )  # fmt: skip


def _next(store_path: Path, run_id: str, end: RunEnd) -> str:
    store = shlex.quote(str(store_path))
    commands = [f"evoloom runs show {run_id} --store {store}"]
    if end.state == "interrupted":
        commands.insert(0, f"evoloom resume {run_id} --store {store}")
    else:
        commands.insert(
            0, f"evoloom export {run_id} --store {store} --format alpaca --out dataset.jsonl"
        )
    said = ending(store_path, run_id, end)
    return f"{said[0].upper()}{said[1:]}.\n\n" + "\n".join(f"    {command}" for command in commands)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---" for _ in head], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
                     for line in lines)  # fmt: skip
