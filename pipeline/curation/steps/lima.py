"""LIMA's mechanical rules (arXiv 2305.11206, section 2.1; METHODS.md d.1).

The paper selects by hand and by the sources' votes; only what it says of lengths, of the first person
and of references to other answers can be applied to any pool. This is that, and no more.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import ClassVar

from pydantic import PositiveInt

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step, split

_FIRST_PERSON = re.compile(
    r"\b(?:I(?:['’](?:m|ve|d|ll))?|[Mm]e|[Mm]y|[Mm]ine|[Mm]yself)\b(?![.\-/]\w)"
)
_OTHER_ANSWERS = re.compile(
    r"\b[Aa]s\s+(?:@?[A-Z]\w+|others?|someone|somebody)\s+(?:(?:have|has|had|already|above|else)\s+)*"
    r"(?:said|mentioned|noted|pointed\s+out|suggested|stated|answered|commented)\b"
    r"|\b(?i:(?:other|another|previous|accepted|earlier|existing|top)\s+(?:answers?|repl(?:y|ies)"
    r"|comments?|commenters?|answerers?))\b"
    r"|\b(?i:the\s+(?:answers?|comments?|repl(?:y|ies))\s+(?:above|below))\b"
    r"|\b[\w']+['’]s\s+answer\b"
)
_QUOTED = re.compile(r"```.*?```|`[^`]*`|“[^”]*”|\"[^\"\n]*\"|(?m:^>[^\n]*)", re.DOTALL)
_NUMERAL = re.compile(
    r"\b(?:part|chapter|type|phase|war|section|volume|class|level|step|figure|table|act|book|grade|"
    r"world\s+war|stage|group|schedule|title|version|[A-Z]\w*\s+the)\s+I\b(?!['’])",
    re.IGNORECASE,
)


class LimaStep(Step):
    """Mechanical rules only; what is quoted, or code, is not looked at for words."""

    step: ClassVar[str] = "lima"

    count: PositiveInt = 1000
    """How many are kept, drawn at random by the recipe's seed (published: 1,000 in all)."""
    min_characters: PositiveInt = 1200
    """Shortest answer (published: 1,200)."""
    max_characters: PositiveInt = 4096
    """Longest answer (published: 4,096)."""
    reject_first_person: bool = True
    """Reject an answer in the first person singular (published)."""
    reject_other_answers: bool = True
    """Reject an answer that refers to other answers (published)."""

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep a sample of what passes; the score of a length is the length, the evidence of a word
        the word."""
        passed, rejected = split(candidates, self._judge)
        rng = random.Random(f"{context.seed}/{self.step}")  # noqa: S311 - not secret
        numbers = [item.number for item in passed]
        chosen = frozenset(rng.sample(numbers, min(self.count, len(numbers))))
        kept = [item for item in passed if item.number in chosen]
        more = [Reject(item, "not_sampled") for item in passed if item.number not in chosen]
        return Outcome(
            kept,
            [*rejected, *more],
            {"passed": len(passed), "rules": "mechanical rules of LIMA only"},
        )

    def _judge(self, item: Candidate) -> Reject | None:
        answer = "\n".join(item.responses)
        length = len(answer)
        if length < self.min_characters:
            return Reject(item, "answer_too_short", length)
        if length > self.max_characters:
            return Reject(item, "answer_too_long", length)
        said = _NUMERAL.sub(" ", _QUOTED.sub(" ", answer))
        if self.reject_first_person and (found := _FIRST_PERSON.search(said)):
            return Reject(item, "first_person", None, found[0])
        if self.reject_other_answers and (found := _OTHER_ANSWERS.search(said)):
            return Reject(item, "refers_to_other_answers", None, found[0])
        return None
