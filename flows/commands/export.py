"""`evoloom export RUN|DATASET`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.options import JsonOption, StoreOption, store_path

if TYPE_CHECKING:
    from store.export import ExportReport


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|DATASET",
            help="A run or an import, a dataset version, or a dataset's name for its newest.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: JSON Lines, a JSON array if it ends in .json, or -; for hf and "
            "llama-factory a directory."
        ),
    ],
    format: Annotated[
        str,
        typer.Option(
            help="alpaca, sharegpt, messages (OpenAI), parquet, hf, llama-factory, or student "
            "(for `evoloom train` on another machine)."
        ),
    ] = "alpaca",
    validation: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Split off about this share of the rows, such as 0.1: OUT.train.jsonl and "
            "OUT.validation.jsonl. An instruction and all evolved from it stay on one side.",
        ),
    ] = None,
    split_seed: Annotated[int, typer.Option(help="What the split is drawn from.")] = 0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write accepted instances for a trainer. Reads the run directory, so it works at any time."""
    import json

    from flows.datasets import export_dataset

    report = export_dataset(
        store_path(store), run, format, out, validation=validation, split_seed=split_seed
    )
    if as_json:
        typer.echo(json.dumps(_as_json(report)), err=str(out) == "-")
        return
    text = f"{report.rows} rows of {report.instructions} instructions written to {out}"
    if report.is_partial:
        text += (
            f" (the run is {report.state}: its first {report.complete_positions} complete "
            "generation positions)"
        )
    typer.echo(text, err=True)
    if validation is not None:
        for part in report.parts:
            typer.echo(
                f"  {part.name}: {part.rows} rows of {part.roots} lineages in {part.path}", err=True
            )


def _as_json(report: ExportReport) -> dict[str, Any]:
    return {
        "run_id": report.run_id,
        "state": report.state,
        "rows": report.rows,
        "instructions": report.instructions,
        "partial": report.is_partial,
        "out": str(report.out),
        "parts": [
            {
                "name": part.name,
                "path": str(part.path),
                "rows": part.rows,
                "instructions": part.instructions,
                "roots": part.roots,
            }
            for part in report.parts
        ],
    }
