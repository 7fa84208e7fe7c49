"""Judging as a state machine: each text is asked about until its answer can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.curation.judging import (
    STAGE,
    JudgedText,
    Judgement,
    JudgePlan,
    QualityAsker,
    Structured,
    parse_quality,
)
from pipeline.prompting import Api
from pipeline.records import Address, Batch, Completion, CompletionRow, JournalEntry
from pipeline.run.machine import MachineProgress, StageProgress
from pipeline.run.requests import TeacherRequest
from pipeline.run.rows import completion_row

UNREADABLE = "unreadable"
"""Why an answer is discarded: it does not say a score for each dimension."""


@dataclass(frozen=True, slots=True)
class JudgingPlan:
    """All that a run of judging stands on."""

    judge: JudgePlan
    texts: Sequence[JudgedText]
    run_seed: int
    model: str
    api: Api
    structured: Structured
    drop_parameters: frozenset[str]
    re_asks: int
    templates: Mapping[str, str]


class JudgeMachine:
    """The run of one plan. See `pipeline.run.machine.Machine` for the methods."""

    stages = (STAGE,)

    def __init__(self, plan: JudgingPlan) -> None:
        self._plan = plan
        self._asker = QualityAsker(
            plan.judge, plan.templates, plan.api, plan.model, plan.run_seed, plan.structured,
            plan.drop_parameters,
        )  # fmt: skip
        self._newly_ready = [Address(STAGE, (number,)) for number in range(len(plan.texts))]
        self._rows: dict[int, list[CompletionRow]] = {}
        self._settled: set[int] = set()
        self._written = 0
        self._known = len(plan.texts)
        self._answered = 0
        self._left_out: list[str] = []
        self.judgements: dict[int, Judgement] = {}
        """By the text's number; one without a readable answer is not in it."""
        self.re_asked = 0

    def ready(self) -> list[Address]:
        ready, self._newly_ready = self._newly_ready, []
        return ready

    def may_send(self, address: Address) -> bool:
        return True

    def sent(self, address: Address) -> None:
        pass

    def request(self, address: Address) -> TeacherRequest:
        return self._asker.request(address, self._plan.texts[address.position[0]])

    def context(self, address: Address) -> dict[str, Any]:
        return {}

    def apply(self, entry: JournalEntry) -> None:
        number, attempt = entry.address.position[0], entry.address.attempt
        outcome = entry.outcome
        self._answered += 1
        judgement = None
        if isinstance(outcome, Completion):
            judgement = parse_quality(outcome.text, self._plan.judge.dimensions)
        is_read = judgement is not None
        row = completion_row(entry, "used" if is_read else "discarded",
                             None if is_read else UNREADABLE)  # fmt: skip
        self._rows.setdefault(number, []).append(row)
        if judgement is not None:
            self.judgements[number] = judgement
        elif isinstance(outcome, Completion) and attempt < self._plan.re_asks:
            self._newly_ready.append(Address(STAGE, (number,), attempt + 1))
            self._known += 1
            self.re_asked += 1
            return
        self._settled.add(number)

    def lacks(self, address: Address) -> None:
        number = address.position[0]
        self._left_out.append(f"{address}: {self._plan.texts[number].instruction}")
        self._settled.add(number)

    def drain(self) -> list[Batch]:
        batches = []
        while self._written in self._settled:
            rows = tuple(self._rows.pop(self._written, ()))
            batches.append(Batch(STAGE, (self._written,), rows))
            self._written += 1
        return batches

    def finished(self) -> Literal["completed", "ceiling"] | None:
        return "completed" if len(self._settled) == len(self._plan.texts) else None

    def finish(self, unused: Sequence[JournalEntry], *, partial: bool = False) -> list[Batch]:
        return self.drain()

    def left_out(self) -> list[str]:
        return self._left_out

    def progress(self) -> MachineProgress:
        texts = len(self._plan.texts)
        return MachineProgress(
            accepted=len(self.judgements),
            target=texts,
            stages={STAGE: StageProgress(self._answered, self._known)},
            rejected={UNREADABLE: len(self._settled) - len(self.judgements)},
            share_done=len(self._settled) / texts if texts else 1.0,
        )
