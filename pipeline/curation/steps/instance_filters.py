"""Self-Instruct's filters of instances (arXiv 2212.10560, section 2.2, step 4; METHODS.md a.5)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step
from pipeline.self_instruct.filter_settings import InstanceFilters
from pipeline.self_instruct.filters import filter_instances
from pipeline.self_instruct.parsing import ParsedInstance


class InstanceFilterStep(InstanceFilters, Step):
    """The instances of one instruction are judged together, as published.

    Conversations that begin alike are told apart by their system message and further turns.
    """

    step: ClassVar[str] = "instance_filters"

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep the instances that the published filters keep."""
        groups: dict[int, list[Candidate]] = {}
        for candidate in candidates:
            groups.setdefault(candidate.group, []).append(candidate)
        reasons: dict[int, str] = {}
        for group, members in groups.items():
            rng = random.Random(f"{context.seed}/{self.step}/{group}")  # noqa: S311 - not secret
            verdicts = filter_instances(
                [ParsedInstance(item.input, item.output) for item in members],
                settings=self,
                rng=rng,
                contexts=[(item.system, item.further_turns) for item in members],
            )
            for member, verdict in zip(members, verdicts, strict=True):
                if verdict.reason is not None:
                    reasons[member.number] = verdict.reason
        return Outcome(
            [item for item in candidates if item.number not in reasons],
            [Reject(item, reasons[item.number]) for item in candidates if item.number in reasons],
        )
