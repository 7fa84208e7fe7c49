"""Which scripts a text is written in, by Unicode's property `Script`."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

# Unicode's names. Letters of any other script count as `Other`.
SCRIPTS = (
    "Latin",
    "Han",
    "Cyrillic",
    "Arabic",
    "Devanagari",
    "Hiragana",
    "Katakana",
    "Hangul",
    "Greek",
    "Hebrew",
    "Thai",
    "Bengali",
    "Tamil",
    "Telugu",
    "Georgian",
    "Armenian",
    "Ethiopic",
)


@cache
def _letters() -> Any:
    import regex  # type: ignore[import-untyped]

    named = "|".join(rf"(?P<{script}>(?:(?=\p{{L}})\p{{Script={script}}})+)" for script in SCRIPTS)
    return regex.compile(rf"{named}|(?P<Other>\p{{L}})")


def count_letters(text: str) -> Counter[str]:
    """Letters (Unicode category L) of a text by script; what is no letter belongs to none."""
    if text.isascii():
        letters = sum(map(str.isalpha, text))
        return Counter({"Latin": letters} if letters else {})
    counts: Counter[str] = Counter()
    for match in _letters().finditer(text):
        counts[match.lastgroup] += match.end() - match.start()
    return counts


def main_script(text: str) -> str | None:
    """The script most letters are of (of two alike the first in the text); None without a letter."""
    counts = count_letters(text)
    return max(counts, key=lambda script: counts[script]) if counts else None
