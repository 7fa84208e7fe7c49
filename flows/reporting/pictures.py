"""The report's pictures as PNG files, drawn by a browser that kaleido drives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.reporting.chart import Chart, plain
from pipeline.errors import EvoloomError, UsageError

WIDTH = 1200
_SCALE = 2
_TITLE_HEIGHT = 60
_HOW = (
    "PNG pictures are drawn by Chrome or Chromium. Install one (on Debian and Ubuntu `apt-get install "
    "chromium`), or set BROWSER_PATH to the program's path. The report itself (--out) needs none"
)


def write_pictures(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Write each chart's figure, with its title, as `<name>.png`; the files written.

    Raises:
        UsageError: there is no browser, or the folder cannot be written; no file is changed.
        EvoloomError: the browser failed.
    """
    drawn = [chart for chart in charts if chart.figure is not None]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the pictures, so that a finished one only has to be renamed.
        with TemporaryDirectory(dir=folder, prefix=".drawing-") as place:
            _draw(drawn, Path(place))
            written = []
            for chart in drawn:
                target = folder / f"{chart.name}.png"
                os.replace(Path(place) / target.name, target)
                written.append(target)
    except OSError as exc:
        raise UsageError(f"{folder}: cannot be written: {exc.strerror or exc}") from exc
    return written


def titled(chart: Chart) -> Any:
    """A copy of the chart's figure with the title that the page shows above it."""
    import plotly.graph_objects as go

    figure = go.Figure(chart.figure)
    margin = figure.layout.margin
    figure.update_layout(
        title={"text": f"<b>{plain(chart.title)}</b>", "x": 0.01, "xanchor": "left", "yref": "container",
               "y": 1, "yanchor": "top", "pad": {"t": 18}, "font": {"size": 18}},
        height=figure.layout.height + _TITLE_HEIGHT,
        margin={"t": (margin.t or 0) + _TITLE_HEIGHT},
    )  # fmt: skip
    return figure


def _draw(charts: Sequence[Chart], place: Path) -> None:
    import kaleido
    from choreographer.browsers.chromium import ChromeNotFoundError

    tasks = []
    for chart in charts:
        figure = titled(chart)
        opts = {"format": "png", "width": WIDTH, "height": figure.layout.height, "scale": _SCALE}
        path = place / f"{chart.name}.png"
        tasks.append({"fig": figure.to_dict(), "path": path, "opts": opts})
    try:
        # No formulas, so no MathJax: kaleido would fetch it from the network.
        kaleido.write_fig_from_object_sync(tasks, cancel_on_error=True, kopts={"mathjax": False})
    except ChromeNotFoundError as exc:
        named = os.environ.get("BROWSER_PATH")
        found = f"there is none at BROWSER_PATH={named}" if named else "none was found"
        raise UsageError(f"{found}. {_HOW}") from exc
    except OSError:
        raise
    except Exception as exc:
        raise EvoloomError(f"the browser could not draw the pictures: {exc}. {_HOW}") from exc
