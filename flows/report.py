"""What the CLI prints about runs: lists, one run in full, the end of a run."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from flows import (
    datasets_report,
    evaluation_report,
    evol_report,
    import_report,
    judgement_report,
    logs,
    training_report,
)
from flows.costs import money_text, share_text, stage_costs, whole_cost
from flows.execution import exit_code
from flows.progress import duration
from flows.publishing import print_published as print_published
from flows.runs import RunResult
from pipeline.evol_instruct.manifest import KIND as EVOL_INSTRUCT
from pipeline.records import Usage
from store.queries import RunDetail, RunSummary, list_runs, show_run
from store.run_directory import runs_directory
from store.run_names import resolve_run
from store.run_rows import sample_instances
from store.run_writer import is_held
from store.text import storable

_WITHOUT_TEACHER: dict[str, Any] = {
    "import": import_report,
    "dataset": datasets_report,
    "training": training_report,
}
"""Kinds of runs that ask no teacher, and what reports on them."""
_REPORTERS: dict[str, Any] = {**_WITHOUT_TEACHER, "judgement": judgement_report,
                              "evaluation": evaluation_report}  # fmt: skip
"""Kinds of runs that make no instructions of their own, and what reports on them."""
_SAMPLES = 5
_WIDTH = 100


def finish(result: RunResult, store_path: Path, *, as_json: bool) -> None:
    """Print how a run ended and leave with its exit code."""
    detail = show_run(store_path, result.run_id)
    if as_json:
        typer.echo(storable(json.dumps(_as_json(detail, store_path), ensure_ascii=False, indent=2)))
    else:
        _print_detail(detail, store_path)
    print_published(result.published)
    error = result.end.error
    if error is not None:
        command = f"`evoloom resume {result.run_id}{_store_flag(store_path)}"
        logs.tell_error(str(error).replace("`evoloom resume RUN", command), state=result.end.state)
    elif result.end.reason == "cap":
        logs.tell_error(
            f"run {result.run_id} stands at its cap (caps.tokens or caps.cost); `evoloom resume "
            f"{result.run_id}{_store_flag(store_path)} --set caps.cost=AMOUNT`, or caps.tokens, with a "
            "higher one goes on where it stopped",
            state="interrupted",
        )
    elif result.end.state == "interrupted":
        logs.tell_error(
            f"run {result.run_id} was interrupted ({result.end.reason}); `evoloom resume "
            f"{result.run_id}{_store_flag(store_path)}` goes on where it stopped",
            state="interrupted",
        )
    elif result.end.state == "ceiling":
        logs.tell_error(
            f"run {result.run_id} reached its ceiling of generation completions with fewer "
            "instructions than asked for; what there is can be exported. A higher run.ceiling, a "
            "better teacher or more seeds give more",
            state="ceiling",
        )
    elif not as_json and detail.manifest.kind not in _REPORTERS:
        _print_next(result.run_id, store_path, can_rederive=detail.summary.pruned_at is None)
    raise typer.Exit(exit_code(result.end))


def print_runs(store_path: Path, *, as_json: bool) -> None:
    """The runs of a store."""
    runs = [_with_live_state(run, store_path) for run in list_runs(store_path)]
    if as_json:
        typer.echo(json.dumps([asdict(run) for run in runs], default=_utc, ensure_ascii=False))
        return
    if not runs:
        typer.echo(f"no runs in {store_path}; `evoloom run self-instruct --target 12` makes one")
        return
    width = max(len(run.run_id) for run in runs)
    typer.echo(f"{'run':<{width}}  {'accepted':>9}  {'time':>8}  created (UTC)        state")
    for run in runs:
        created = f"{run.created_at:%Y-%m-%d %H:%M:%S}" if run.created_at else "-"
        accepted = f"{run.accepted}/{run.target}" if run.target else str(run.accepted)
        typer.echo(
            f"{run.run_id:<{width}}  {accepted:>9}  {duration(run.elapsed_s):>8}  {created:<19}  "
            f"{_state(run)}"
        )


def print_run(store_path: Path, run_id: str, *, as_json: bool) -> None:
    """One run in full."""
    detail = show_run(store_path, resolve_run(runs_directory(store_path), run_id))
    if as_json:
        typer.echo(storable(json.dumps(_as_json(detail, store_path), ensure_ascii=False, indent=2)))
    else:
        _print_detail(detail, store_path)


def _with_live_state(run: RunSummary, store_path: Path) -> RunSummary:
    """A run that says 'running' and that nobody holds was killed."""
    from dataclasses import replace

    held = is_held(runs_directory(store_path) / run.run_id)
    if run.state in ("running", "paused") and not held:
        return replace(run, state="interrupted", reason="killed")
    return run


def _state(run: RunSummary) -> str:
    text = run.state
    if run.problem:
        text += f": {run.problem}"
    elif run.reason:
        text += f": {run.reason}"
    flags = [("ingest pending", run.ingest_pending), ("pruned", run.pruned_at is not None)]
    told = ", ".join(name for name, is_set in flags if is_set)
    return f"{text} ({told})" if told else text


def _as_json(detail: RunDetail, store_path: Path) -> dict[str, Any]:
    run = _with_live_state(detail.summary, store_path)
    run_dir = runs_directory(store_path) / run.run_id
    whole = whole_cost(detail)
    return {
        **json.loads(json.dumps(asdict(run), default=_utc)),
        "store": str(store_path),
        "run_directory": str(run_dir),
        "run_seed": detail.manifest.run_seed,
        "window": detail.manifest.window,
        "ceiling": detail.manifest.ceiling,
        "model": detail.manifest.raw.get("model"),
        "funnel": [asdict(row) for row in detail.funnel.rows],
        "usage": [
            {**asdict(row), **cost.to_json()}
            for row, cost in zip(detail.usage, stage_costs(detail), strict=True)
        ],
        "prompts_with_two_machine_shots": detail.prompts_with_two_machine_shots,
        "evolution": [asdict(count) for count in detail.evolution],
        "cost": round(whole.cost or 0.0, 6),
        "cost_per_accepted": whole.to_json()["cost_per_accepted"],
        "samples": [asdict(sample) for sample in sample_instances(run_dir, _SAMPLES)],
    }


def _print_detail(detail: RunDetail, store_path: Path) -> None:
    run = _with_live_state(detail.summary, store_path)
    echo = typer.echo
    echo(f"run {run.run_id}: {_state(run)}")
    asked = f"; run seed {detail.manifest.run_seed}; model {detail.manifest.raw.get('model')}"
    echo(f"  {made_of(detail)}{'' if run.kind in _WITHOUT_TEACHER else asked}")
    echo("\nfunnel")
    for text, count, depth in funnel_lines(detail):
        echo(f"  {'  ' * depth}{text:<{48 - 2 * depth}} {count:>7}")
    if detail.evolution:
        echo("\nrounds")
        for text in evol_report.round_lines(detail.evolution):
            echo(f"  {text}")
        echo("\noperators")
        for text in evol_report.operator_lines(detail.evolution):
            echo(f"  {text}")
    samples = sample_instances(runs_directory(store_path) / run.run_id, _SAMPLES)
    if samples:
        echo("\nsamples")
    for sample in samples:
        kind = " [classification]" if sample.is_classification else ""
        echo(f"  - {_short(sample.instruction)}{kind}")
        if sample.input:
            echo(f"      input:  {_short(sample.input)}")
        echo(f"      output: {_short(sample.output)}")
    if run.kind not in _WITHOUT_TEACHER:
        _print_usage(detail)
    echo(f"\nstore {store_path}, run directory {runs_directory(store_path) / run.run_id}")


def made_of(detail: RunDetail) -> str:
    """What a run made, in a few words."""
    run = detail.summary
    if run.kind in _REPORTERS:
        return str(_REPORTERS[run.kind].made_of(detail))
    if detail.evolution:
        source = sum(count.accepted for count in detail.evolution if count.round is None)
        name = (detail.manifest.raw.get("source") or {}).get("name")
        evolved = run.accepted - source
        return f"result pool {run.accepted}: {source} of {name}, {evolved} evolved from them"
    return f"accepted {run.accepted} of {run.target}, surplus {run.surplus}"


def funnel_lines(detail: RunDetail) -> list[tuple[str, int, int]]:
    """A run's funnel: text, count, depth of indentation."""
    if detail.manifest.kind in _REPORTERS:
        return list(_REPORTERS[detail.manifest.kind].funnel_lines(detail))
    if detail.evolution or detail.manifest.kind == EVOL_INSTRUCT:
        return list(evol_report.funnel_lines(detail))
    funnel = detail.funnel
    lines = []
    completions = [("generate", "generation"), ("classify", "classification"),
                   ("instances", "instance")]  # fmt: skip
    for stage, name in completions:
        used = funnel.count("completions", "used", stage=stage)
        discarded = funnel.reasons("completions", "discarded", stage=stage)
        surplus = funnel.count("completions", "surplus", stage=stage)
        lines.append((f"{name} requests answered", used + sum(discarded.values()) + surplus, 0))
        lines += [(f"discarded: {reason}", count, 1) for reason, count in discarded.items()]
        if surplus:
            lines.append(("not needed", surplus, 1))
        if stage == "generate":
            lines += _instruction_lines(detail)
    lines.append(("instances parsed", sum(
        row.count for row in funnel.rows
        if row.subject == "instances" and row.outcome in ("accepted", "rejected", "surplus")
    ), 0))  # fmt: skip
    rejected = funnel.reasons("instances", "rejected")
    lines += [(f"rejected: {reason}", count, 1) for reason, count in rejected.items()]
    lines.append(("accepted", funnel.count("instances", "accepted"), 1))
    lines.append(
        ("prompts that held two generated shots", detail.prompts_with_two_machine_shots, 0)
    )
    return lines


def _instruction_lines(detail: RunDetail) -> list[tuple[str, int, int]]:
    funnel = detail.funnel
    outcomes = ("rejected", "pending", "without_instances", "left_out", "surplus", "accepted")
    parsed = sum(funnel.count("instructions", outcome) for outcome in outcomes)
    lines = [("instructions parsed", parsed, 0)]
    for outcome in outcomes:
        if outcome in ("rejected", "without_instances"):
            name = outcome.replace("_", " ")
            lines += [
                (f"{name}: {reason}", count, 1)
                for reason, count in funnel.reasons("instructions", outcome).items()
            ]
        elif (count := funnel.count("instructions", outcome)) or outcome == "accepted":
            lines.append((outcome.replace("_", " "), count, 1))  # fmt: skip
    return lines


def _print_usage(detail: RunDetail) -> None:
    total = sum((row.usage for row in detail.usage), Usage())
    elapsed = detail.summary.elapsed_s or 0.0
    rate = f", {total.completion_tokens / elapsed:.0f} tok/s" if elapsed else ""
    typer.echo(
        f"\ntokens: {total.prompt_tokens} prompt ({total.cached_tokens} of them cached), "
        f"{total.completion_tokens} completion; time {duration(elapsed)}{rate}"
    )
    stages = stage_costs(detail)
    if not stages:
        return
    models = max(len(stage.model) for stage in stages)
    typer.echo(
        f"  {'stage':<15} {'model':<{models}} {'requests':>9} {'prompt':>11} {'cached':>7} "
        f"{'completion':>11} {'cost':>10} {'each accepted':>14}"
    )
    whole = whole_cost(detail)
    for stage in [*stages, whole]:
        model = "" if stage is whole else stage.model
        typer.echo(
            f"  {stage.stage:<15} {model:<{models}} {stage.requests:>9} "
            f"{stage.usage.prompt_tokens:>11} {share_text(stage.cached_share):>7} "
            f"{stage.usage.completion_tokens:>11} {money_text(stage.cost):>10} "
            f"{money_text(stage.per_accepted):>14}"
        )
    if whole.cost:
        each = (
            "" if whole.per_accepted is None
            else f", {whole.per_accepted:.4f} an accepted instruction"
        )  # fmt: skip
        typer.echo(f"cost: {whole.cost:.4f}{each}")


def _print_next(run_id: str, store_path: Path, *, can_rederive: bool) -> None:
    store = _store_flag(store_path)
    typer.echo("\ntry next")
    typer.echo(f"  evoloom export {run_id}{store} --format alpaca --out dataset.jsonl")
    typer.echo(f"  evoloom runs show {run_id}{store}")
    if can_rederive:
        typer.echo(f"  evoloom rederive {run_id}{store} --set novelty.threshold=0.5")
    typer.echo(f"  evoloom run evol-instruct --source {run_id}{store} --rounds 2 --limit 10")


def _store_flag(store_path: Path) -> str:
    from pipeline.sections import StoreSettings

    default = StoreSettings().path
    return "" if store_path == default else f" --store {shlex.quote(str(store_path))}"


def _short(text: str) -> str:
    flat = " ".join(storable(text).split())
    return flat if len(flat) <= _WIDTH else flat[: _WIDTH - 1] + "…"


def _utc(value: Any) -> str:
    return f"{value.isoformat()}Z" if hasattr(value, "isoformat") else str(value)
