"""`evoloom report RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import ConfigOption, JsonOption, StoreOption, store_path


def report(
    run: Annotated[str, typer.Argument(help="A run, an import or a dataset version.")],
    out: Annotated[
        Path | None, typer.Option(help="HTML file to write; it needs no network and no other file.")
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(help="Folder for the pictures as PNG; needs Chrome or Chromium."),
    ] = None,
    versus: Annotated[
        str | None, typer.Option(metavar="RUN", help="Another one to set beside it.")
    ] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's report: what it made, why the rest was rejected, how varied and new it is.

    Statistics, funnel, verbs and nouns, questions, novelty, lengths, difficulty and the teacher's
    usage, as pictures with the numbers below. Reads the published snapshot.
    """
    import json
    import shlex

    from flows.reporting.chart import Side
    from flows.reporting.pictures import write_pictures
    from flows.reporting.write import draw_charts, write_page
    from pipeline.errors import UsageError
    from store.report_data import read_report_data
    from store.run_directory import runs_directory
    from store.run_names import resolve_runs

    if out is None and png is None:
        raise UsageError(
            "nothing to write: name the page with --out FILE.html, or a folder with --png"
        )
    place = store_path(store, config)
    names = resolve_runs(runs_directory(place), [run] if versus is None else [run, versus])
    if versus is not None and len(names) == 1:
        raise UsageError(f"--versus {versus}: that is {names[0]} itself; name another one")
    data = read_report_data(place, *names)
    sides = [Side(name, one) for name, one in zip(names, data, strict=True)]
    command = f"evoloom store analyse {' '.join(map(shlex.quote, names))}"
    if store is not None:
        command += f" --store {shlex.quote(str(store))}"
    charts = draw_charts(sides, command)
    size = write_page(sides, charts, out) if out is not None else None
    pictures = write_pictures(charts, png) if png is not None else []
    if as_json:
        value = {
            "runs": list(names),
            "report": str(out) if out else None,
            "bytes": size,
            "charts": [chart.name for chart in charts],
            "pictures": [str(path) for path in pictures],
        }
        typer.echo(json.dumps(value, ensure_ascii=False))
        return
    if size is not None:
        typer.echo(f"{out}: report on {' and '.join(names)}, {size / 1e6:.1f} MB", err=True)
    for path in pictures:
        typer.echo(str(path), err=True)
