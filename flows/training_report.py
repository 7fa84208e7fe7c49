"""What the CLI prints about a training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from flows import logs
from flows.progress import Display, duration
from flows.publishing import print_published
from flows.runs import Listener
from flows.training import TrainingResult, training_error
from pipeline.student.memory import gib
from store.queries import RunDetail


@contextmanager
def listening(*, quiet: bool) -> Iterator[Listener]:
    """A listener that shows a training's progress, a line every few seconds."""
    with Display(quiet=quiet, as_line=_line, as_table=_table) as display:
        yield Listener(display.show, display.message)


def _line(record: dict[str, Any]) -> str:
    return str(record["text"])


def _table(record: dict[str, Any]) -> Any:
    from rich.table import Table

    caption = (
        f"{record['tokens_per_s']:.0f} tok/s   elapsed {duration(record['elapsed_s'])}   "
        f"remaining {duration(record['remaining_s'])}"
    )
    table = Table(title="training", caption=caption, title_justify="left", caption_justify="left")
    for name in ("step", "epoch", "loss", "held-out loss"):
        table.add_column(name, justify="right")
    table.add_row(
        f"{record['step']}/{record['steps']}", f"{record['epoch']:.2f}",
        _number(record["loss"]), _number(record["held_out_loss"]),
    )  # fmt: skip
    return table


def finish(result: TrainingResult, *, as_json: bool) -> None:
    """Print how a training ended, and leave with its exit code."""
    if as_json:
        value = {
            "run_id": result.run_id,
            "state": result.end.state,
            "reason": result.end.reason,
            "run_directory": str(result.run_dir),
            "result": result.result,
        }
        typer.echo(json.dumps(value, ensure_ascii=False))
    elif result.result is not None:
        for text in result_lines(result.result):
            typer.echo(text)
        typer.echo(f"adapter: {result.run_dir / 'adapter'}")
        typer.echo(f"\ntry next\n  evoloom evaluate {result.run_id}")
    print_published(result.published)
    error = training_error(result)
    if error is not None:
        logs.tell_error(str(error), exit_code=error.exit_code)
        raise typer.Exit(error.exit_code)


def result_lines(value: Any) -> list[str]:
    """What came out of a training, a line each."""
    base, tuned = value["base_held_out_loss"], value["held_out_loss"]
    early = ", stopped early" if value["stopped_early"] else ""
    return [
        f"held-out loss {base:.4f} (base) -> {tuned:.4f} (tuned), "
        f"{value['held_out_examples']} examples",
        f"{value['steps']} steps, {value['epochs']:.2f} epochs{early}; "
        f"{value['train_examples']} examples, {value['truncated']} truncated, "
        f"{value['dropped']} dropped",
        f"{value['trainable_parameters']:,} of {value['parameters']:,} parameters trained",
        f"{_rate(value['tokens_per_s'])} tokens a second, {_rate(value['trained_tokens_per_s'])} of "
        f"them responses; peak memory {gib(value['peak_memory_bytes'])} on {value['device']}",
    ]


def made_of(detail: RunDetail) -> str:
    """What a training is, in a few words, for `evoloom runs show`."""
    raw = detail.manifest.raw
    return (
        f"{raw['base']['name']} tuned by {raw['method']['name']} on {raw['dataset']} "
        f"({raw['counts']['train']} examples, {raw['counts']['held_out']} held out)"
    )


def funnel_lines(detail: RunDetail) -> list[tuple[str, int, int]]:
    """What became of the examples: text, count, depth of indentation."""
    counts = detail.manifest.raw["counts"]
    return [
        ("examples to train on", counts["train"], 0),
        ("examples held out", counts["held_out"], 0),
        ("truncated", counts["truncated"], 1),
        ("dropped: too long", counts["dropped"], 1),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
