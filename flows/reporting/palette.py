"""Colours and letters of every picture, chosen once.

The categorical colours are those of Okabe and Ito 2008 ("Color Universal Design"); the verbs' are
Paul Tol's light scheme (2021, "Colour Schemes"), made to lie under dark text, in three tones. Both
can be told apart with any of the common colour vision deficiencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TEXT = "#1b1f24"
MUTED = "#4b5563"
GRID = "#e3e6ea"
PAPER = "#ffffff"
DATASETS = ("#0072b2", "#e69f00")
"""The run reported, and the one it is compared with."""
ACCEPTED = "#009e73"
REJECTED = "#d55e00"
SURPLUS = "#56b4e9"
UNSETTLED = "#cc79a7"
NEUTRAL = "#9aa3ad"
TOKENS = {"prompt": "#0072b2", "cached": "#56b4e9", "completion": "#e69f00"}
FONT = (
    'system-ui, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", "Noto Sans CJK SC", "PingFang SC", '
    '"Microsoft YaHei", "WenQuanYi Zen Hei", "Noto Color Emoji", sans-serif'
)
_HUES = (
    "#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99", "#bbcc33", "#aaaa00",
)  # fmt: skip
_TONES = (("#ffffff", 0.0), ("#ffffff", 0.45), ("#000000", 0.14))
NOUN_TINT = 0.35
"""Share of white in the colour of a verb's nouns."""
# Ratings from 1 (light) to 10 (dark): ColorBrewer's YlGnBu, in ten steps.
RATINGS = (
    "#ffffd9", "#f0f8c1", "#dcf0b4", "#b9e2b5", "#85cfba", "#52bbc2", "#2f9bc1", "#2272b2",
    "#234da0", "#1d2c6b",
)  # fmt: skip


def verb_colours(verbs: Iterable[str]) -> dict[str, str]:
    """A colour for each verb, by its place: neighbours differ in hue."""
    unique = dict.fromkeys(verbs)
    return {verb: _verb_colour(place) for place, verb in enumerate(unique)}


def _verb_colour(place: int) -> str:
    other, share = _TONES[place // len(_HUES) % len(_TONES)]
    return mix(_HUES[place % len(_HUES)], other, share)


def mix(colour: str, other: str, share: float) -> str:
    """A colour with a share (0 to 1) of another in it."""
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def text_on(colour: str) -> str:
    """Dark or white: what is read better on a colour."""
    return max((TEXT, PAPER), key=lambda text: contrast(text, colour))


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 to 21.

    Source: WCAG 2.2, "contrast ratio"; 4.5 is what text needs.
    """
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def layout(height: int, **more: Any) -> dict[str, Any]:
    """The layout that all figures share."""
    shared: Mapping[str, Any] = {
        "template": "none",
        "height": height,
        "font": {"family": FONT, "size": 14, "color": TEXT},
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
        "hoverlabel": {"align": "left", "bgcolor": PAPER, "font": {"color": TEXT}},
        "separators": ".,",
        "legend": {
            "orientation": "h",
            "y": 1.0,
            "yanchor": "bottom",
            "x": 0,
            "traceorder": "normal",
        },
    }
    return {**shared, **more}


def axis_title(text: str) -> dict[str, Any]:
    """The title of an axis, in the size that all have."""
    return {"text": text, "font": {"size": 14}}


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _luminance(colour: str) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(colour))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
