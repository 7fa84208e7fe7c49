"""Which language a text is in: by its script, and within a script by its small words.

Counting the most frequent words of each language is one of the two classical schemes (Grefenstette
1995, "Comparing two language identification schemes"); the lists are spaCy's stop words.
"""

from __future__ import annotations

import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pipeline.diversity.scripts import count_letters
from pipeline.diversity.words import words_of

UNKNOWN = "unknown"
_READS_AS_ENGLISH = 2.0
# ISO 639-1. Of scripts that several languages share, those that are told apart.
_LANGUAGES = {
    "Latin": ("en", "de", "fr", "es", "pt", "it", "nl", "sv", "da", "nb", "fi", "pl", "cs", "hu",
              "ro", "tr", "id", "vi"),
    "Cyrillic": ("ru", "uk", "bg"),
    "Arabic": ("ar", "fa", "ur"),
}  # fmt: skip
_OF_SCRIPT = {
    "Han": "zh", "Hiragana": "ja", "Katakana": "ja", "Hangul": "ko", "Greek": "el", "Hebrew": "he",
    "Thai": "th", "Devanagari": "hi", "Bengali": "bn", "Tamil": "ta", "Telugu": "te",
    "Georgian": "ka", "Armenian": "hy", "Ethiopic": "am",
}  # fmt: skip


def language_of(text: str, *, reads_as_english: bool = False) -> str:
    """The ISO 639-1 code of the language most of a text is in; `unknown` where nothing decides.

    Args:
        reads_as_english: whether the mended rule could name what the text asks for; counts as much
            as two small words of English.
    """
    letters = count_letters(text)
    if not letters:
        return UNKNOWN
    script = max(letters, key=lambda name: letters[name])
    if script == "Han" and letters["Hiragana"] + letters["Katakana"]:
        return "ja"
    if script not in _LANGUAGES:
        return _OF_SCRIPT.get(script, UNKNOWN)
    scores = dict.fromkeys(_LANGUAGES[script], 0.0)
    if reads_as_english and script == "Latin":
        scores["en"] = _READS_AS_ENGLISH
    for word in words_of(text):
        languages = _small_words(script).get(word, ())
        for language in languages:
            scores[language] += 1 / len(languages)
    first, second = sorted(scores, key=lambda language: -scores[language])[:2]
    return first if scores[first] > scores[second] else UNKNOWN


@cache
def _small_words(script: str) -> dict[str, tuple[str, ...]]:
    """The languages that each small word is one of."""
    found: dict[str, tuple[str, ...]] = {}
    for language in _LANGUAGES[script]:
        for word in _stop_words(language):
            found[word] = (*found.get(word, ()), language)
    return found


def _stop_words(language: str) -> list[str]:
    # Run by itself, the file costs nothing; imported, it would bring all of spaCy with it.
    spec = find_spec("spacy")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "lang" / language / "stop_words.py"
    return sorted({word.casefold() for word in runpy.run_path(str(path))["STOP_WORDS"]})
