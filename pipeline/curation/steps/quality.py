"""Quality by a teacher's judgement: five dimensions, each from 1 to 5 with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from pipeline.curation.context import Context, Judge
from pipeline.curation.judging import (
    DIMENSIONS,
    Dimension,
    Judgement,
    JudgePlan,
    default_decoding,
)
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step
from pipeline.decoding import StageDecoding
from pipeline.errors import UsageError


class QualityStep(Step):
    """After AlpaGasus (arXiv 2307.08701; METHODS.md d.6), which asks for one dimension from 0 to 5
    and keeps 4.5 and better; here one answer rates all dimensions (METHODS.md e.1).

    Every candidate that gets here is a paid request, so it comes last. Gives the scores `quality`
    (mean or lowest) and `quality_DIMENSION`. Thresholds can be changed for free: the same candidates
    are not asked about again.
    """

    step: ClassVar[str] = "quality"
    makes: ClassVar[tuple[str, ...]] = ("quality", *(f"quality_{name}" for name in DIMENSIONS))

    dimensions: tuple[Dimension, ...] = Field(default=tuple(DIMENSIONS), min_length=1)
    """What is rated."""
    threshold: float | None = Field(default=4.5, ge=1.0, le=5.0)
    """Lowest score that is kept (published: 4.5); unset: all that were rated, for a later step."""
    score: Literal["mean", "lowest"] = "mean"
    """How the dimensions become one score."""
    unrated: Literal["reject", "keep"] = "reject"
    """What becomes of a candidate without a readable answer after `teacher.re_asks`; `keep` leaves it
    without scores, so that no later step can go by them."""
    decoding: StageDecoding = Field(default_factory=default_decoding)
    """Decoding of the judgements."""

    def gives(self) -> tuple[str, ...]:
        """The mean or lowest, and each dimension that is rated."""
        if self.unrated == "keep":
            return ()
        return ("quality", *(f"quality_{name}" for name in self.dimensions))

    def check(self, context: Context) -> None:
        """Check that there is a teacher to ask."""
        self._judge(context).check(self._plan())

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Ask, and keep the good; the evidence is the reason given for the lowest dimension."""
        judgements = self._judge(context).ask(self._plan(), candidates)
        kept, rejected = [], []
        for item in candidates:
            judgement = judgements.get(item.number)
            if judgement is None:
                if self.unrated == "keep":
                    kept.append(item)
                else:
                    rejected.append(Reject(item, "unrated"))
                continue
            score = self._score(judgement)
            each = {f"quality_{name}": float(said) for name, said in judgement.scores.items()}
            scored = item.scored(quality=score, **each)
            if self.threshold is not None and score < self.threshold:
                lowest = min(self.dimensions, key=lambda name: judgement.scores[name])
                evidence = f"{lowest} {judgement.scores[lowest]}: {judgement.reasons[lowest]}"
                rejected.append(Reject(scored, "low_quality", score, evidence))
            else:
                kept.append(scored)
        return Outcome(kept, rejected, {"rated": len(judgements)})

    def _score(self, judgement: Judgement) -> float:
        values = [judgement.scores[name] for name in self.dimensions]
        return round(fmean(values), 4) if self.score == "mean" else float(min(values))

    def _plan(self) -> JudgePlan:
        return JudgePlan(self.dimensions, self.decoding)

    def _judge(self, context: Context) -> Judge:
        if context.judge is None:
            raise UsageError("the step quality needs a teacher to ask, and there is none here")
        return context.judge
