"""Self-Instruct's filters of instructions (arXiv 2212.10560, section 2.2, step 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step, split
from pipeline.self_instruct.filter_settings import InstructionFilters
from pipeline.self_instruct.filters import reject_reason


class InstructionFilterStep(InstructionFilters, Step):
    """Every instance of an instruction that a filter rejects is rejected."""

    step: ClassVar[str] = "instruction_filters"

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep what every filter passes; the evidence is the word, prefix or count found."""

        def judge(candidate: Candidate) -> Reject | None:
            found = reject_reason(candidate.instruction, self)
            return Reject(candidate, found.reason, None, found.evidence or None) if found else None

        return Outcome(*split(candidates, judge))
