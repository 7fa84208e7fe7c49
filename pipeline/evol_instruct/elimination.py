"""The published conditions under which an evolution fails (arXiv 2304.12244, section 3.2).

Pure functions; each returns the evidence for what it found, or None. The fourth condition, no
information gain, is the teacher's judgement (`pipeline.evol_instruct.judging`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

Elimination = Literal[
    "leaked_prompt",
    "not_novel",
    "no_information_gain",
    "sorry",
    "nothing_said",
]
"""Why an evolution fails: words of the prompt in the child; a breadth child too near to another;
the judge sees no gain; a short response with an apology; a response of nothing but punctuation and
stop words. The last three and the first are the published ones."""

_SORRY = re.compile(r"\bsorry\b", re.IGNORECASE)
# A word with its apostrophes, straight or typographic.
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def leaked_phrase(child: str, parent: str, phrases: Iterable[str]) -> str | None:
    """The first phrase of the evolving prompt that the child holds and its parent does not.

    An instruction that itself speaks of 'the given prompt' (there are many) has not copied it.
    """
    for phrase in phrases:
        pattern = _phrase(phrase)
        if pattern.search(child) and not pattern.search(parent):
            return phrase
    return None


@lru_cache(maxsize=256)
def _phrase(phrase: str) -> re.Pattern[str]:
    words = r"\s+".join(map(re.escape, phrase.split()))
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def short_apology(response: str, below_words: int) -> str | None:
    """The number of words of a response that contains 'sorry' and has fewer than `below_words`."""
    if not _SORRY.search(response):
        return None
    words = len(response.split())
    return f"{words} words" if words < below_words else None


def says_nothing(response: str) -> str | None:
    """The response, if it consists of punctuation and English stop words alone."""
    words = _WORD.findall(response.lower().replace("\u2019", "'"))
    has_signs = any(not sign.isalnum() and not _is_punctuation(sign) for sign in response)
    if has_signs or any(word not in stop_words() for word in words):
        return None
    return " ".join(response.split())[:200]


def _is_punctuation(sign: str) -> bool:
    # Emoji and symbols outside of ASCII may be the whole of a sound answer; what ASCII counts as
    # punctuation is, and so is what Unicode does.
    import unicodedata

    return sign.isspace() or sign.isascii() or unicodedata.category(sign).startswith(("P", "C"))


@cache
def stop_words() -> frozenset[str]:
    """English words of the closed classes, from the file beside this module."""
    text = (resources.files("pipeline.evol_instruct") / "stop_words.txt").read_text("utf-8")
    return frozenset(text.split())
