"""Scores of one answer, as published for Super-NaturalInstructions.

Source: Tk-Instruct, `src/compute_metrics.py` (Wang et al. 2022, arXiv 2204.07705): ROUGE-L
F-measure with the Porter stemmer and the best of all references; exact match after lower-casing,
removing punctuation and collapsing blanks.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
EXACT_MATCH_CATEGORIES = frozenset({
    "textual entailment", "cause effect classification", "coreference resolution",
    "dialogue act recognition", "answerability classification", "word analogy",
})  # fmt: skip
"""Categories whose published metric is exact match; all others' is ROUGE-L."""


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """Best ROUGE-L F-measure of an answer with one of its references, from 0 to 1."""
    return max(float(_scorer().score(reference, answer)["rougeL"].fmeasure)
               for reference in references)  # fmt: skip


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 where the answer is one of the references, normalised, else 0."""
    said = normalise(answer)
    return float(any(said == normalise(reference) for reference in references))


def normalise(text: str) -> str:
    """A text as exact match compares it."""
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


def category_metric(category: str) -> Literal["rouge_l", "exact_match"]:
    """The published metric of a category of Super-NaturalInstructions."""
    name = category.strip().lower().replace("_", " ")
    return "exact_match" if name in EXACT_MATCH_CATEGORIES else "rouge_l"
