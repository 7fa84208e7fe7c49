"""`evoloom seeds validate FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import JsonOption

app = typer.Typer(help="Seed tasks.", no_args_is_help=True)


@app.callback()
def seeds() -> None:
    """Seed tasks."""


@app.command("validate")
def validate(
    file: Annotated[Path, typer.Argument(help="JSON Lines in the field's seed schema.")],
    as_json: JsonOption = False,
) -> None:
    """Check a file of seed tasks; every problem is reported with its line and field."""
    import json

    from pipeline.seeds import validate_seed_file

    tasks, problems = validate_seed_file(file)
    if as_json:
        rows = [
            {"line": item.line, "field": item.field, "message": item.message} for item in problems
        ]
        value = {"file": str(file), "tasks": len(tasks), "problems": rows}
        typer.echo(json.dumps(value, ensure_ascii=False))  # fmt: skip
    else:
        for problem in problems:
            typer.echo(f"{file}, {problem}")
        classification = sum(task.is_classification for task in tasks)
        typer.echo(
            f"{file}: {len(tasks)} sound tasks ({classification} classification), "
            f"{len(problems)} problems"
        )
        if not tasks and not problems:
            typer.echo(f"{file}: holds no task; one JSON object a line is expected", err=True)
    if problems or not tasks:
        raise typer.Exit(2)
