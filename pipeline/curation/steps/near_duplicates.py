"""Near duplicates of instructions, by ROUGE-L as Self-Instruct measures novelty (section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step
from pipeline.novelty import Admission, NoveltyIndex

_AT_ONCE = 2048


class NearDuplicateStep(Step):
    """Instructions are walked in order; one stays if none that stayed before is too similar.

    All instances of an instruction share its fate. With `of = "prompt"` each instance is walked, its
    input being part of the text.
    """

    step: ClassVar[str] = "near_duplicates"

    threshold: float = Field(default=0.7, gt=0.0, le=1.0)
    """ROUGE-L F-measure at which a text counts as a near copy (published: 0.7)."""
    at_threshold: Literal["reject", "admit"] = "reject"
    """What happens at exactly the threshold: `reject` as the paper words it, `admit` as the
    released code does."""
    tokenizer: Literal["rouge", "multilingual"] = "rouge"
    """`rouge` (rouge_score's own, ASCII letters and digits) or `multilingual`."""
    of: Literal["instruction", "prompt"] = "instruction"
    """The text that is compared: the instruction, or instruction and input."""

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep what is new; score and evidence are of the kept text that it is too near to."""
        index = NoveltyIndex(self.threshold, self.at_threshold, self.tokenizer)
        texts = {self._key(item): self._text(item) for item in candidates}
        keys = list(texts)
        verdicts: dict[int, Admission] = {}
        for start in range(0, len(keys), _AT_ONCE):
            chunk = keys[start : start + _AT_ONCE]
            verdicts.update(zip(chunk, index.admit([texts[key] for key in chunk]), strict=True))
            context.on_progress(min(start + _AT_ONCE, len(keys)), len(keys))
        kept, rejected = [], []
        for item in candidates:
            verdict = verdicts[self._key(item)]
            if verdict.admitted:
                kept.append(item)
            else:
                rejected.append(Reject(item, "near_duplicate", verdict.score, verdict.blocker))
        return Outcome(kept, rejected, {"without_tokens": index.untokenized})

    def _key(self, item: Candidate) -> int:
        return item.group if self.of == "instruction" else item.number

    def _text(self, item: Candidate) -> str:
        return item.instruction if self.of == "instruction" else item.prompt
