"""Colours: readable under their text, apart from their neighbours, the same for the same verb."""

from __future__ import annotations

import pytest

from flows.reporting import palette

ENOUGH = 4.5  # WCAG 2.2, AA


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("#000000", "#ffffff", 21.0), ("#777777", "#ffffff", 4.48), ("#0000ff", "#ffffff", 8.59)],
)
def test_contrast_is_as_published(one: str, other: str, expected: float) -> None:
    assert palette.contrast(one, other) == pytest.approx(expected, abs=0.01)


def test_text_can_be_read_on_every_verb_and_noun() -> None:
    colours = palette.verb_colours(f"verb{number}" for number in range(40)).values()
    for colour in colours:
        assert palette.contrast(palette.TEXT, colour) >= ENOUGH
        assert palette.contrast(palette.TEXT, palette.mix(colour, "#ffffff", 0.35)) >= ENOUGH


def test_text_can_be_read_on_every_rating_and_on_the_page() -> None:
    for colour in palette.RATINGS:
        assert palette.contrast(palette.text_on(colour), colour) >= ENOUGH
    assert palette.contrast(palette.TEXT, palette.PAPER) >= 7
    assert palette.contrast(palette.MUTED, palette.PAPER) >= ENOUGH


def test_twenty_verbs_have_twenty_colours() -> None:
    colours = palette.verb_colours(f"verb{number}" for number in range(20))
    assert len(set(colours.values())) == 20


def test_a_verb_keeps_its_colour_however_often_it_comes() -> None:
    colours = palette.verb_colours(["write", "sort", "write", "find"])
    assert colours == palette.verb_colours(["write", "sort", "find"])
