"""Exact duplicates: of texts that say the same, the first is kept."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import ClassVar, Literal

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step, split

_SHOWN = 200


class ExactDuplicateStep(Step):
    """Letter case and white space make no difference unless told to."""

    step: ClassVar[str] = "exact_duplicates"

    of: Literal["instance", "prompt", "output"] = "instance"
    """What must be the same: all texts of the instance, instruction and input, or the output."""
    ignore_case: bool = True
    """Whether letters in upper and lower case are the same."""
    ignore_space: bool = True
    """Whether runs of white space are one blank, and none at the ends."""

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep the first of each; the evidence is the text of the one that is kept."""
        first: dict[Hashable, Candidate] = {}

        def judge(candidate: Candidate) -> Reject | None:
            earlier = first.setdefault(self._key(candidate), candidate)
            if earlier is candidate:
                return None
            shown = earlier.output if self.of == "output" else earlier.prompt
            return Reject(candidate, "exact_duplicate", None, shown[:_SHOWN])

        return Outcome(*split(candidates, judge))

    def _key(self, item: Candidate) -> Hashable:
        if self.of == "instance":
            return tuple(map(self._same, item.texts()))
        if self.of == "prompt":
            return self._same(item.system or ""), self._same(item.prompt)
        return self._same(item.output)

    def _same(self, text: str) -> str:
        text = text.casefold() if self.ignore_case else text
        return " ".join(text.split()) if self.ignore_space else text
