"""Verb and noun of many instructions: each distinct text once, in one process or several."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.diversity.model import PARSER_VERSION
from pipeline.diversity.parsing import parse_texts
from pipeline.diversity.pooling import parse_chunks
from pipeline.diversity.records import Method, VerbNoun

__all__ = ["CHUNK", "PARSER_VERSION", "analyse"]

CHUNK = 512
"""Texts parsed at once: enough that handing them over costs nothing, few enough that processes end
together and that little is lost when they are stopped."""


def analyse(texts: Iterable[str], method: Method = "mended", processes: int = 1) -> list[VerbNoun]:
    """What each instruction asks for.

    A text that occurs again is not parsed again. The answer depends on the text, the method and
    `PARSER_VERSION` alone, so that it can be kept by them.

    Args:
        texts: instructions.
        method: `mended`, or `published` for the rule of the Self-Instruct paper.
        processes: how many to parse with, each loading the model, so that more than one pay from
            some thousand texts on; 1 parses in this process.

    Returns:
        One record a text, in the order of the texts.

    Raises:
        ValueError: `processes` is below 1, or the method is unknown.
        ParserError: one of several processes was killed.
    """
    if method not in ("mended", "published"):
        raise ValueError(f"unknown method {method!r}: take 'mended' or 'published'")
    if processes < 1:
        raise ValueError(f"processes is {processes}: at least 1 is needed")
    texts = list(texts)
    distinct = list(dict.fromkeys(texts))
    chunks = [distinct[i : i + CHUNK] for i in range(0, len(distinct), CHUNK)]
    found: list[VerbNoun] = []
    if processes == 1:
        for chunk in chunks:
            found += parse_texts(chunk, [method])[0]
    else:
        for _, (records,) in parse_chunks(chunks, [method], processes):
            found += records
    by_text = dict(zip(distinct, found, strict=True))
    return [by_text[text] for text in texts]
