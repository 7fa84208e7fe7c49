"""The words of a text, as the measures count them."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def words_of(text: str) -> list[str]:
    """Runs of letters, digits and underscores, case-folded; an apostrophe within a word is its."""
    return _WORD.findall(text.casefold())
