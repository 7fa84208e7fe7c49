"""Difficulty without a judge: how little an instruction helps to say its response."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.curation.context import Context
from pipeline.curation.ifd import check_model, measure_ifd
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step


class DifficultyStep(Step):
    """Instruction-following difficulty, IFD (Li et al. 2023, "From Quantity to Quality", arXiv
    2308.12032, section 2.2): the loss of the response given its instruction, divided by its loss
    alone. Near 0: the instruction says it all; from 1 on it does not help, and the pair is taken for
    mismatched.

    Of a conversation the first answer is measured. Gives the score `ifd`; the paper keeps the
    highest (`top_k`) of those below 1.
    """

    step: ClassVar[str] = "difficulty"
    makes: ClassVar[tuple[str, ...]] = ("ifd",)

    model: Path | None = None
    """Folder of the model that measures (Hugging Face), from the recipe's folder; unset: the bundled
    SmolLM2-135M-Instruct. The paper takes the student after a short first training."""
    template: Literal["auto", "chat", "alpaca"] = "auto"
    """How prompts are written, as in `training.template`."""
    max_length: PositiveInt = 1024
    """Longest prompt and response in tokens; the end of a longer response is left out."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the computation; `auto`: bfloat16 on a GPU, float32 on a CPU."""
    min: float | None = Field(default=None, ge=0)
    """Lowest IFD that is kept; unset: any."""
    below: PositiveFloat | None = 1.0
    """What the IFD of a kept one is below (published: 1)."""

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.min is not None and self.below is not None and self.min >= self.below:
            raise ValueError(f"min ({self.min}) is not less than below ({self.below})")
        return self

    def check(self, context: Context) -> None:
        """Check that the model is there."""
        check_model(self._folder(context))

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Score all, and keep those within the limits."""
        measured = measure_ifd(
            candidates, self._folder(context), context.cache_dir, self.template, self.max_length,
            self.dtype, context.on_progress,
        )  # fmt: skip
        kept, rejected = [], []
        for item in candidates:
            ifd = measured.scores[item.number]
            if ifd is None:
                rejected.append(Reject(item, "prompt_too_long"))
            elif self.min is not None and ifd < self.min:
                rejected.append(Reject(item.scored(ifd=ifd), "too_easy", ifd))
            elif self.below is not None and ifd >= self.below:
                rejected.append(Reject(item.scored(ifd=ifd), "instruction_does_not_help", ifd))
            else:
                kept.append(item.scored(ifd=ifd))
        return Outcome(kept, rejected, measured.details)

    def _folder(self, context: Context) -> Path | None:
        return None if self.model is None else context.folder / self.model
