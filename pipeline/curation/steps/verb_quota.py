"""A quota for each verb, so that a few kinds of task do not crowd out the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import PositiveInt

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step
from pipeline.diversity import VerbNoun, analyse

_AT_ONCE = 512


class VerbQuotaStep(Step):
    """The verb is what the instruction asks to be done, as the verb-noun analysis names it.

    Questions count by their question word. What is neither has no quota.
    """

    step: ClassVar[str] = "verb_quota"

    count: PositiveInt
    """Most candidates that are kept of each."""
    of: Literal["verb", "pair"] = "verb"
    """What has a quota: each verb, or each verb with its noun."""
    by: str | None = None
    """The score by which the best of each are kept, such as `ifd`; unset: the first ones."""
    unparsed: Literal["keep", "reject"] = "keep"
    """What becomes of instructions of which no verb can be named."""

    def needs(self) -> tuple[str, ...]:
        """The score, if one is named."""
        return (self.by,) if self.by else ()

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep up to `count` of each; the evidence is the verb."""
        asked = self._asked(candidates, context)
        order: Sequence[Candidate] = candidates
        if self.by is not None:
            by = self.by
            order = sorted(candidates, key=lambda item: (-item.scores[by], item.number))
        taken: Counter[str] = Counter()
        reasons: dict[int, str] = {}
        for item in order:
            name = asked[item.instruction]
            if name is None:
                if self.unparsed == "reject":
                    reasons[item.number] = "unparsed"
            elif taken[name] >= self.count:
                reasons[item.number] = "over_quota"
            else:
                taken[name] += 1
        return Outcome(
            [item for item in candidates if item.number not in reasons],
            [
                Reject(item, reasons[item.number], item.scores[self.by] if self.by else None,
                       asked[item.instruction])
                for item in candidates if item.number in reasons
            ],
            {"kinds": len(taken)},
        )  # fmt: skip

    def _asked(self, candidates: Sequence[Candidate], context: Context) -> dict[str, str | None]:
        texts = list(dict.fromkeys(item.instruction for item in candidates))
        found: list[VerbNoun] = []
        for start in range(0, len(texts), _AT_ONCE):
            found += analyse(texts[start : start + _AT_ONCE])
            context.on_progress(len(found), len(texts))
        return {text: self._name(parse) for text, parse in zip(texts, found, strict=True)}

    def _name(self, parse: VerbNoun) -> str | None:
        if parse.verb is None:
            return parse.question_word
        return parse.verb if self.of == "verb" else f"{parse.verb} {parse.noun or '-'}"
