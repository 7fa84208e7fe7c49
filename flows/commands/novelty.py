"""`evoloom novelty FILE [--against FILE]`: what the novelty filter makes of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import JsonOption

if TYPE_CHECKING:
    from pipeline.novelty import Admission

_BINS = 20


def novelty(
    file: Annotated[
        Path,
        typer.Argument(
            help="Instructions: one a line, JSON Lines or a JSON array with the field "
            "'instruction'; .gz too."
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(help="Instructions already in the pool, in the same formats."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="ROUGE-L F-measure that keeps an instruction out.")
    ] = 0.7,
    at_threshold: Annotated[
        str, typer.Option(help="What exactly the threshold means for a tie: reject or admit.")
    ] = "reject",
    tokenizer: Annotated[str, typer.Option(help="rouge or multilingual.")] = "rouge",
    as_json: JsonOption = False,
) -> None:
    """Say which instructions of a file are new, and which one keeps each of the others out.

    They are judged in the order of the file; each that is admitted joins the pool.
    """
    import json

    from pipeline.errors import UsageError
    from pipeline.novelty import NoveltyIndex
    from pipeline.novelty.instructions import read_instructions

    if at_threshold not in ("reject", "admit"):
        raise UsageError(f"--at-threshold must be reject or admit, not {at_threshold!r}.")
    index = NoveltyIndex(threshold, "admit" if at_threshold == "admit" else "reject", tokenizer)
    pool = read_instructions(against) if against is not None else []
    texts = read_instructions(file)
    index.add(pool)
    admissions = index.admit(texts)
    report = _report(texts, admissions)
    report |= {"file": str(file), "pool": len(pool), "threshold": threshold,
               "at_threshold": at_threshold, "tokenizer": tokenizer,
               "untokenized": index.untokenized}  # fmt: skip
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        _print(report)
    if index.untokenized and tokenizer == "rouge":
        typer.echo(
            f"Warning: {index.untokenized} texts have letters but no tokens under the default "
            "tokenizer; they are always admitted. Use --tokenizer multilingual.",
            err=True,
        )


def _report(texts: list[str], admissions: list[Admission]) -> dict[str, Any]:
    """Return the counts, each rejection and how the rejections' scores are distributed."""
    histogram = [0] * _BINS
    rejected = []
    for line, (text, admission) in enumerate(zip(texts, admissions, strict=True), start=1):
        if admission.score is not None:
            histogram[min(_BINS - 1, int(admission.score * _BINS))] += 1
            rejected.append({"number": line, "instruction": text, "blocker": admission.blocker,
                             "score": admission.score})  # fmt: skip
    return {
        "instructions": len(texts),
        "admitted": len(texts) - len(rejected),
        "rejected": rejected,
        "histogram": [
            {"from": i / _BINS, "to": (i + 1) / _BINS, "rejected": count}
            for i, count in enumerate(histogram)
        ],
    }


def _print(report: dict[str, Any]) -> None:
    for row in report["rejected"]:
        typer.echo(f"{row['number']}: {row['score']:.3f} {row['instruction']}")
        typer.echo(f"    kept out by: {row['blocker']}")
    typer.echo(
        f"{report['file']}: {report['instructions']} instructions, {report['admitted']} admitted, "
        f"{len(report['rejected'])} rejected (ROUGE-L at {report['threshold']:g}, "
        f"pool of {report['pool']} before)"
    )
    highest = max((row["rejected"] for row in report["histogram"]), default=0)
    for row in report["histogram"]:
        if row["rejected"]:
            bar = "#" * max(1, round(40 * row["rejected"] / highest))
            typer.echo(f"  {row['from']:.2f} to {row['to']:.2f} {row['rejected']:>7} {bar}")
