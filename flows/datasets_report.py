"""What the CLI prints about dataset versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from flows.curation_card import step_lines
from flows.options import store_flag
from store.datasets import DatasetSummary, read_card
from store.run_directory import runs_directory

if TYPE_CHECKING:
    from flows.datasets import DatasetResult
    from store.dataset_diff import DatasetDiff
    from store.queries import RunDetail

_HASH_SHOWN = 19
_WIDTH = 100


def print_created(result: DatasetResult, store_path: Path, *, as_json: bool) -> None:
    """Say which version there is now, and of what."""
    from flows.publishing import print_published

    summary = result.created.summary
    if as_json:
        value = {**_as_json(summary), "created": result.created.is_new,
                 "counts": [asdict(count) for count in result.collected.inputs]}  # fmt: skip
        typer.echo(json.dumps(value, ensure_ascii=False))
    else:
        if not result.created.is_new:
            typer.echo(f"the content equals that of {summary.run_id}; no new version was made")
        typer.echo(f"{summary.run_id}: {_size(summary)}, {summary.content_hash}")
        for count in result.collected.inputs:
            typer.echo(
                f"  {count.run_id}: {count.instructions} instructions, {count.instances} instances"
                f", of them new {count.new_instructions} and {count.new_instances}"
            )
    print_published(result.published)
    if not as_json:
        store = store_flag(store_path)
        typer.echo("\ntry next")
        typer.echo(f"  evoloom datasets show {summary.run_id}{store}")
        typer.echo(
            f"  evoloom export {summary.run_id}{store} --format hf --validation 0.1 "
            f"--out {summary.name}"
        )


def print_list(datasets: Sequence[DatasetSummary], *, as_json: bool) -> None:
    """The versions there are."""
    if as_json:
        values = [_as_json(item) for item in datasets]
        typer.echo(json.dumps(values, ensure_ascii=False))
        return
    if not datasets:
        typer.echo("no dataset versions; `evoloom datasets create NAME RUN` makes one")
        return
    width = max(len(item.run_id) for item in datasets)
    typer.echo(
        f"{'version':<{width}}  {'instructions':>12}  {'instances':>9}  {'hash':<{_HASH_SHOWN}}  of"
    )
    for item in datasets:
        typer.echo(
            f"{item.run_id:<{width}}  {item.instructions:>12}  {item.instances:>9}  "
            f"{item.content_hash[:_HASH_SHOWN]}  {', '.join(item.inputs)}"
        )


def print_dataset(summary: DatasetSummary, store_path: Path, *, as_json: bool) -> None:
    """A version's card."""
    card = read_card(runs_directory(store_path), summary.run_id)
    if as_json:
        typer.echo(json.dumps({**_as_json(summary), "card": card}, ensure_ascii=False))
    else:
        typer.echo(card, nl=False)


def print_diff(
    names: tuple[str, str], diff: DatasetDiff, samples: int | None, *, as_json: bool
) -> None:
    """What differs between two datasets; `samples` of each kind, None for all."""
    if as_json:
        value = {"a": names[0], "b": names[1], **asdict(diff), "equal": diff.is_equal}
        value["only_a_count"], value["only_b_count"] = len(diff.only_a), len(diff.only_b)
        value["changed_count"] = len(diff.changed)
        for key in ("only_a", "only_b", "changed"):
            value[key] = value[key][:samples]
        typer.echo(json.dumps(value, ensure_ascii=False))
        return
    echo = typer.echo
    echo(f"A {names[0]}: {diff.instructions_a} instructions, {diff.instances_a} instances")
    echo(f"B {names[1]}: {diff.instructions_b} instructions, {diff.instances_b} instances")
    if diff.is_equal:
        echo("both hold the same instances")
        return
    echo(f"in both: {diff.instructions_in_both} instructions, {diff.instances_in_both} instances")
    for side, texts in (("A", diff.only_a), ("B", diff.only_b)):
        echo(f"only in {side}: {len(texts)} instructions")
        for text in texts[:samples]:
            echo(f"  - {_short(text)}")
        _echo_rest(len(texts), samples)
    echo(f"changed outputs: {len(diff.changed)}")
    for change in diff.changed[:samples]:
        echo(f"  - {_short(change.instruction)}")
        if change.input:
            echo(f"      input: {_short(change.input)}")
        for side, outputs in (("A", change.outputs_a), ("B", change.outputs_b)):
            for output in outputs:
                echo(f"      {side}: {_short(output)}")
    _echo_rest(len(diff.changed), samples)


def made_of(detail: RunDetail) -> str:
    """What a dataset version is, in a few words, for `runs show`."""
    raw = detail.manifest.raw
    return (
        f"dataset version: {raw['instructions']} instructions, {raw['instances']} instances of "
        f"{', '.join(raw['inputs'])} ({raw['recipe']['name']}); {raw['content_hash'][:_HASH_SHOWN]}"
    )


def funnel_lines(detail: RunDetail) -> list[tuple[str, int, int]]:
    """A dataset version's funnel: text, count, depth of indentation."""
    raw = detail.manifest.raw
    lines = []
    for count in raw["counts"]:
        lines.append((f"instances accepted by {count['run_id']}", count["instances"], 0))
        if earlier := count["instances"] - count["new_instances"]:
            lines.append(("an earlier run has them too", earlier, 1))
    if curation := raw.get("curation"):
        lines += step_lines(curation["steps"])
    return [*lines, ("instructions", raw["instructions"], 0), ("instances", raw["instances"], 0)]


def _size(summary: DatasetSummary) -> str:
    return f"{summary.instructions} instructions, {summary.instances} instances"


def _as_json(summary: DatasetSummary) -> dict[str, Any]:
    created = f"{summary.created_at.isoformat()}Z" if summary.created_at else None
    return {**asdict(summary), "created_at": created}


def _echo_rest(count: int, samples: int | None) -> None:
    if samples is not None and count > samples:
        typer.echo(f"  and {count - samples} more; --samples shows more of them")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _WIDTH else flat[: _WIDTH - 1] + "…"
