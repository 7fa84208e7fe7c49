"""What `evoloom diversity` prints: one dataset's measures, or two side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import typer

from flows.diversity import DatasetDiversity
from pipeline.diversity.profile import Counted, Measure, Profile

_LABEL = 34
_COLUMN = 14
_ID_SHOWN = 40
_SHARES: tuple[tuple[str, Callable[[Profile], dict[str, float]]], ...] = (
    ("asked for", lambda profile: profile.kinds),
    ("questions", lambda profile: profile.question_words),
    ("task types", lambda profile: profile.task_types),
    ("languages", lambda profile: profile.languages),
    ("scripts", lambda profile: profile.scripts),
)


def print_diversity(
    found: Sequence[DatasetDiversity], method: str, top: int, *, as_json: bool
) -> None:
    """Print one or two datasets' diversity."""
    if as_json:
        value: dict[str, Any] = {
            "method": method,
            "datasets": [_as_json(item, top) for item in found],
        }
        if len(found) == 2:
            value["difference"] = _differences(found)
        typer.echo(json.dumps(value, ensure_ascii=False))
        return
    for line in _lines(found, method, top):
        typer.echo(line)


def _lines(found: Sequence[DatasetDiversity], method: str, top: int) -> Iterator[str]:
    profiles = [item.profile for item in found]
    for name, item in zip("AB", found, strict=False):
        yield f"{name}  {item.run_id}"
    yield ""
    heads = ["A"] if len(found) == 1 else ["A", "B", "B - A"]
    yield _row(f"verbs by the {method} rule", heads)
    yield _row("distinct instructions", _beside([p.instructions for p in profiles], _whole))
    yield _row("  sample drawn", _beside([p.sample for p in profiles], _whole))
    for rows in zip(*(profile.measures for profile in profiles), strict=True):
        shown = _whole if isinstance(rows[0].value, int) else _number
        yield _row(_label(rows[0]), _beside([row.value for row in rows], shown))
    for title, shares_of in _SHARES:
        shares = [shares_of(profile) for profile in profiles]
        names = dict.fromkeys(name for share in shares for name in share)
        if names:
            yield ""
            yield title
        for name in names:
            yield _row(f"  {name}", _beside([share.get(name, 0.0) for share in shares], _percent))
    for title, counted_of in (("top verbs", _verbs), ("top verb-noun pairs", _pairs)):
        if top and any(counted_of(profile) for profile in profiles):
            yield ""
            yield title
            yield from _top([counted_of(profile) for profile in profiles], top)


def _verbs(profile: Profile) -> tuple[Counted, ...]:
    return profile.verbs


def _pairs(profile: Profile) -> tuple[Counted, ...]:
    return profile.pairs


def _top(counted: Sequence[tuple[Counted, ...]], top: int) -> Iterator[str]:
    """The most frequent of each dataset, by their greatest share."""
    shares = [{item.name: item.share for item in items} for items in counted]
    names = {item.name for items in counted for item in items[:top]}
    greatest = {name: max(share.get(name, 0.0) for share in shares) for name in names}
    for name in sorted(names, key=lambda name: (-greatest[name], name)):
        yield _row(f"  {name}", _beside([share.get(name, 0.0) for share in shares], _percent))


def _label(measure: Measure) -> str:
    mark = {True: "", False: " (less is varied)", None: ""}[measure.is_variety]
    return measure.label + mark


def _row(label: str, cells: Sequence[str]) -> str:
    return f"{label:<{_LABEL}}" + "".join(f"{cell:>{_COLUMN}}" for cell in cells)


def _beside(values: Sequence[float | int | None], shown: Callable[..., str]) -> list[str]:
    """The values, and of two the difference."""
    cells = ["-" if value is None else shown(value) for value in values]
    if len(values) == 2 and None not in values:
        first, second = values
        assert first is not None and second is not None
        cells.append(shown(second - first, sign="+"))
    return cells


def _whole(value: int, sign: str = "") -> str:
    return f"{value:{sign},}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.4f}"


def _percent(value: float, sign: str = "") -> str:
    # A difference of shares is in percentage points.
    return f"{100 * value:{sign}.1f}{' pp' if sign else '%'}"


def _as_json(item: DatasetDiversity, top: int) -> dict[str, Any]:
    profile = item.profile
    return {
        "run_id": item.run_id,
        "instructions": profile.instructions,
        "sample": profile.sample,
        "measures": {measure.key: measure.value for measure in profile.measures},
        "kinds": profile.kinds,
        "question_words": profile.question_words,
        "task_types": profile.task_types,
        "languages": profile.languages,
        "scripts": profile.scripts,
        "top_verbs": [asdict(counted) for counted in profile.verbs[:top]],
        "top_pairs": [asdict(counted) for counted in profile.pairs[:top]],
    }


def _differences(found: Sequence[DatasetDiversity]) -> dict[str, float | None]:
    first, second = (item.profile.measures for item in found)
    return {
        a.key: None if a.value is None or b.value is None else b.value - a.value
        for a, b in zip(first, second, strict=True)
    }
