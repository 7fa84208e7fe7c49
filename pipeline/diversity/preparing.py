"""Prepares a text for the mended rule: what is no request of the writer's own is taken out.

Quoted passages, asides in brackets, code and worked examples hold verbs that are not asked for, and
they cost parsing time. The words that remain keep their order, so that a request keeps its place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipeline.diversity.scripts import count_letters

if TYPE_CHECKING:
    from spacy.tokens import Doc

# Requests stand early; a text beyond this many characters is its material.
MOST_CHARACTERS = 1500
# Below this share of Latin letters a text is not English, whatever else it is.
LATIN_SHARE = 0.7

# What stands for a quoted passage. The parser takes it for a name.
QUOTED = "Xquote"

_QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "’": "'", "‘": "'"})
_CODE = re.compile(r"\n?```.*?(?:```|\Z)", re.DOTALL)
# An apostrophe within a word ends no quotation.
_UNQUOTED = r"(?:[^'\n]|(?<=\w)'(?=\w))"
_LONG_QUOTE = re.compile(
    r'(?<![\w"])"(?=\S)(?=[^"\n]*[\s\\])[^"\n]{6,}(?:"|\Z)'
    rf"|(?<![\w'])'(?=\S)(?={_UNQUOTED}*?\s){_UNQUOTED}{{6,}}(?<=\S)'(?!\w)"
)
_ASIDE = re.compile(r"\s[(\[][^()\[\]]{8,}[)\]]")
_NUMBERING = re.compile(
    r"(?:^|(?<=\n)|(?<=\band ))\s*(?:\(?[a-z]\)|\(?\d{1,2}[.)](?!\d)|[-*•#>]+)\s*"
)
_EXAMPLES = re.compile(
    r"\n\s*(?:examples?|sample|input|output|constraints|notes?)\s*(?:input|output)?\s*\d*\s*:",
    re.IGNORECASE,
)
_CONTRACTED = re.compile(
    r"\b(what|who|how|where|when)s\b(?=\s+(?:the|a|an|your|his|her)\b)", re.IGNORECASE
)
_SPACES = re.compile(r"[^\S\n]+")
_ENDS = frozenset(".?!:;")


def prepare(text: str) -> str:
    """The text to parse; empty if it is not English by its letters."""
    letters = count_letters(text)
    if letters["Latin"] < LATIN_SHARE * letters.total() or not letters:
        return ""
    text = text[: 3 * MOST_CHARACTERS].strip().translate(_QUOTES)
    text = _CODE.sub("\n", text)
    examples = _EXAMPLES.search(text)
    if examples:
        text = text[: examples.start()]
    text = _LONG_QUOTE.sub(f'"{QUOTED}"', text)
    text = _ASIDE.sub(" ", text)
    text = _NUMBERING.sub("", text)
    text = _CONTRACTED.sub(r"\1 is", text)
    text = _SPACES.sub(" ", text).strip()
    if len(text) > MOST_CHARACTERS:
        text = text[:MOST_CHARACTERS].rsplit(" ", 1)[0]
    return text


def mark_sentences(doc: Doc) -> bool:
    """Fix where sentences start that punctuation and line breaks show; the parser adds others.
    Whether there were any.

    Left alone the parser joins 'Sort this: I came, I saw' to one clause of seeing.
    """
    starts_next = marked = False
    for token in doc:
        if token.is_space:
            starts_next = starts_next or "\n" in token.text
            continue
        if starts_next and token.text not in {'"', "'", ")", "]"}:
            token.is_sent_start = marked = True
            starts_next = False
        if token.text in _ENDS and (
            token.whitespace_ or token.i + 1 == len(doc) or _breaks(doc, token.i + 1)
        ):
            starts_next = True
        elif token.text not in {'"', "'", ")", "]"}:
            starts_next = False
    return marked


def _breaks(doc: Doc, i: int) -> bool:
    return doc[i].is_space or doc[i].text in {'"', "'", ")", "]"}
