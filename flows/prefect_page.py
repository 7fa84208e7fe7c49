"""The report page of what a flow made, written beside its log, and what of it is shown in Prefect."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_link_artifact

from flows.prefect_report import markdown_table
from pipeline.errors import EvoloomError
from store.report_data import read_report_data
from store.run_directory import runs_directory

PAGE = "report.html"


def leave_page(store_path: Path, run_id: str, folder: str, key: str) -> str:
    """Write the report of a run or a dataset version, and leave a link to it as an artifact.

    Args:
        folder: the run id whose `.flow` folder it is written to.
        key: of the artifact.

    Returns:
        Markdown for another artifact: the statistics, and where the page is. Where the store cannot
        be read now, or has not taken the run in, how to make the page later.
    """
    # Late: drawing takes a second to be loaded.
    from flows.reporting.chart import Side
    from flows.reporting.statistics import statistics_chart
    from flows.reporting.write import draw_charts, write_page

    page = runs_directory(store_path) / f"{folder}.flow" / PAGE
    try:
        (data,) = read_report_data(store_path, run_id)
        side = Side(run_id, data)
        charts = draw_charts([side], f"evoloom store analyse {run_id} --store {store_path}")
        page.parent.mkdir(parents=True, exist_ok=True)
        write_page([side], charts, page)
    except (EvoloomError, OSError) as exc:
        get_run_logger().warning("the report page was not written: %s", exc)
        return (
            f"\n## Statistics\n\nNot to be had yet ({exc}): "
            f"`evoloom report {run_id} --store {store_path} --out report.html` makes the page\n"
        )
    leave_link(page, key, f"The report of {run_id}")
    table = statistics_chart([side]).tables[0]
    rows = [tuple("-" if cell is None else f"{cell:,}" if isinstance(cell, int | float) else cell
                  for cell in row) for row in table.rows]  # fmt: skip
    return (
        f"\n## Statistics\n\n{markdown_table(table.columns, rows)}\n\nThe whole report: `{page}`\n"
    )


def leave_link(page: Path, key: str, description: str) -> None:
    """Leave a link to a page on the worker's disk as an artifact."""
    create_link_artifact(
        page.absolute().as_uri(), link_text=page.name, key=key, description=description
    )
