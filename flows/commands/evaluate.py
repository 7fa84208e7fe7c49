"""`evoloom evaluate TRAINING`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, SetOption, StoreOption


def evaluate(
    training: Annotated[
        str, typer.Argument(metavar="TRAINING", help="A finished run of `evoloom train`.")
    ],
    tasks: Annotated[
        list[Path] | None,
        typer.Option(
            help="Tasks in the style of Super-NaturalInstructions, JSON Lines; may be repeated."
        ),
    ] = None,
    benchmarks: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Tasks of lm-evaluation-harness, such as mmlu,arc_challenge,hellaswag,"
            "truthfulqa_mc2,gsm8k,humaneval.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Items asked of each file. [default: all]")
    ] = None,
    judge: Annotated[
        bool | None,
        typer.Option(
            "--judge/--no-judge", help="Whether the teacher judges user-oriented answers."
        ),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(help="Name of the evaluation; one that was begun is gone on with."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the report here too, as one HTML file.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    sets: SetOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a tuned student with its base on the same prompts, with intervals.

    Held-out instructions, tasks from files, user-oriented tasks judged in pairs by the teacher,
    benchmarks. Answers are greedy and kept: a configuration scores a file once, and a second start
    goes on where the first was stopped.
    """
    from flows.evaluation import evaluate as run_evaluation
    from flows.evaluation_report import print_result, render_report
    from flows.options import flags
    from flows.progress import Display
    from flows.runs import Listener
    from pipeline.config import resolve
    from pipeline.errors import UsageError
    from store.checked_lines import write_atomically

    given = flags(
        sets, store, evaluation__limit=limit, evaluation__judge=judge,
        evaluation__tasks=[str(path) for path in tasks] if tasks else None,
        evaluation__benchmarks=benchmarks.split(",") if benchmarks else None,
    )  # fmt: skip
    settings = resolve(given, config).settings
    with Display(quiet=quiet) as display:
        result = run_evaluation(
            training, settings, run_id, Listener(display.show, display.message), given, config
        )
    if out is not None:
        try:
            write_atomically(out, render_report(result.results))
        except OSError as exc:
            raise UsageError(f"--out {out}: cannot be written: {exc.strerror or exc}") from exc
    print_result(result, as_json=as_json)
