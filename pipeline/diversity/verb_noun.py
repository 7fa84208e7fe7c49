"""Verb and noun of many instructions: each distinct text once, in one process or several."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from pipeline.diversity.model import PARSER_VERSION
from pipeline.diversity.parsing import parse_texts
from pipeline.diversity.records import Method, VerbNoun

__all__ = ["PARSER_VERSION", "analyse"]

# Large enough that handing it over costs nothing, small enough that processes end together.
_CHUNK = 1024


def analyse(texts: Iterable[str], method: Method = "mended", processes: int = 1) -> list[VerbNoun]:
    """What each instruction asks for.

    A text that occurs again is not parsed again. The answer depends on the text, the method and
    `PARSER_VERSION` alone, so that it can be kept by them.

    Args:
        texts: instructions.
        method: `mended`, or `published` for the rule of the Self-Instruct paper.
        processes: how many to parse with. More than one are started anew (`spawn`), each loading
            the model, so that they pay from some thousand texts on; the caller's main module must
            be importable without side effects, as `multiprocessing` demands.

    Returns:
        One record a text, in the order of the texts.

    Raises:
        ValueError: `processes` is below 1, or the method is unknown.
    """
    if method not in ("mended", "published"):
        raise ValueError(f"unknown method {method!r}: take 'mended' or 'published'")
    if processes < 1:
        raise ValueError(f"processes is {processes}: at least 1 is needed")
    texts = list(texts)
    distinct = list(dict.fromkeys(texts))
    chunks = [distinct[i : i + _CHUNK] for i in range(0, len(distinct), _CHUNK)]
    read = partial(parse_texts, method=method)
    found: list[VerbNoun] = []
    if min(processes, len(chunks)) <= 1:
        for chunk in chunks:
            found += read(chunk)
    else:
        workers = min(processes, len(chunks))
        with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
            for records in pool.map(read, chunks):
                found += records
    by_text = dict(zip(distinct, found, strict=True))
    return [by_text[text] for text in texts]


def _start_worker() -> None:
    # spaCy imports torch where it is installed, which takes seconds and serves no model of ours.
    # A worker is a process of our own, started for nothing else.
    sys.modules["torch"] = None  # type: ignore[assignment]
