"""Self-Instruct as a state machine: told outcomes in any order, it derives the same rows.

Generation outcomes are applied in position order; classification and instances of an admitted
instruction are asked as soon as it is admitted, while more is generated (streaming, no stage
barriers). What is accepted is decided in admission order (DESIGN.md, Window and Target).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

from pipeline.records import (
    Address,
    Batch,
    Completion,
    CompletionRow,
    JournalEntry,
    Position,
    ShotRecord,
)
from pipeline.run.machine import MachineProgress, StageProgress
from pipeline.run.requests import TeacherRequest
from pipeline.run.rows import completion_row
from pipeline.run.warnings import untokenized_warning
from pipeline.self_instruct.asking import Asker
from pipeline.self_instruct.deriving import (
    Admitted,
    derive_instances,
    derive_instructions,
)
from pipeline.self_instruct.parsing import is_classification
from pipeline.self_instruct.plan import CLASSIFY, GENERATE, INSTANCES, STAGES, SelfInstructPlan
from pipeline.self_instruct.pool import TaskPool
from pipeline.self_instruct.yields import YieldEstimate

_SUSPICIOUS = 5
"""Unusable classification answers of which a run says nothing yet."""


class SelfInstructMachine:
    """The run of one plan. See `pipeline.run.machine.Machine` for the methods."""

    stages = STAGES

    def __init__(self, plan: SelfInstructPlan) -> None:
        self._plan = plan
        self._pool = TaskPool(plan)
        self._asker = Asker(plan)
        self._shots: dict[int, list[ShotRecord]] = {}
        self._offered = 0
        self._applied = 0
        self._early: dict[int, JournalEntry] = {}
        # Those that are not settled yet, in admission order; what a run keeps of the others is in the
        # pool, so that its memory does not grow with the answers.
        self._admitted: deque[Admitted] = deque()
        self._by_position: dict[Position, Admitted] = {}
        self._accepted = 0
        self._newly_ready: list[Address] = []
        self._batches: list[Batch] = []
        self._rejected: dict[str, int] = {}
        self._counts = {stage: [0, 0] for stage in self.stages}
        self._yields = YieldEstimate()
        self._classified = self._unclassified = 0

    # -- what to ask ---------------------------------------------------------------------------

    def ready(self) -> list[Address]:
        ready, self._newly_ready = self._newly_ready, []
        limit = min(self._plan.ceiling, self._applied + self._plan.window)
        while self._offered < limit:
            ready.append(Address(GENERATE, (self._offered,)))
            self._offered += 1
        for address in ready:
            self._counts[address.stage][1] += 1
        return ready

    def may_send(self, address: Address) -> bool:
        if address.stage != GENERATE:
            return True
        return self._yields.expected() < self._plan.target

    def sent(self, address: Address) -> None:
        if address.stage == GENERATE:
            self._yields.generation_sent()

    def request(self, address: Address) -> TeacherRequest:
        if address.stage == GENERATE:
            shots = [self._pool.text_of(shot) for shot in self._shots_for(address.position[0])]
            return self._asker.generation(address, shots)
        item = self._by_position[address.position]
        if address.stage == CLASSIFY:
            return self._asker.classification(address, item.text)
        return self._asker.instances(address, item.text, bool(item.is_classification))

    def context(self, address: Address) -> dict[str, Any]:
        if address.stage != GENERATE:
            return {}
        shots = self._shots_for(address.position[0])
        return {"shots": [f"{shot.source} {shot.reference}" for shot in shots]}

    def _shots_for(self, g: int) -> list[ShotRecord]:
        if g not in self._shots:
            self._shots[g] = self._pool.shots_for(g)
        return self._shots[g]

    # -- what was answered ---------------------------------------------------------------------

    def apply(self, entry: JournalEntry) -> None:
        self._counts[entry.address.stage][0] += 1
        if entry.address.stage == GENERATE:
            self._early[entry.address.position[0]] = entry
            while (next_entry := self._early.pop(self._applied, None)) is not None:
                self._apply_generation(next_entry)
            return
        item = self._by_position[entry.address.position]
        item.entries.append(entry)
        if entry.address.stage == CLASSIFY:
            self._apply_classification(item, entry)
        else:
            self._settle(item, *derive_instances(self._plan, item, entry))
        self._advance_settled()

    def _apply_generation(self, entry: JournalEntry) -> None:
        g = self._applied
        completion, instructions = derive_instructions(self._plan, self._pool, entry, g)
        new = [row for row in instructions if row.state == "pending"]
        for row in new:
            item = Admitted(row)
            self._admitted.append(item)
            self._by_position[row.position] = item
            self._newly_ready.append(Address(CLASSIFY, row.position))
        for row in instructions:
            self._count_reason(row.reason)
        self._count_reason(completion.reason)
        self._batches.append(Batch(GENERATE, (g,), (completion,), tuple(instructions)))
        self._pool.close_position()
        self._shots.pop(g, None)
        self._applied += 1
        self._yields.generation_applied(len(new))

    def _apply_classification(self, item: Admitted, entry: JournalEntry) -> None:
        outcome = entry.outcome
        if not isinstance(outcome, Completion):
            # A refusal is no answer: 'not a classification task' would be made up.
            self._settle(item, "without_instances", f"classification_{outcome.kind}")
            return
        found = is_classification(outcome.text)
        self._classified += 1
        self._unclassified += found is None
        item.is_classification = found is True
        self._newly_ready.append(Address(INSTANCES, item.position))

    def _settle(self, item: Admitted, state: str, reason: str | None) -> None:
        item.state = "accepted" if state == "accepted" else "without_instances"
        item.reason = reason
        self._yields.settled(state == "accepted")

    def _advance_settled(self) -> None:
        """Accept in admission order; what comes after the target is surplus, whenever it came."""
        while self._admitted and self._accepted < self._plan.target:
            item = self._admitted[0]
            if item.state == "pending":
                return
            if item.state == "accepted":
                self._accepted += 1
            self._batches.append(item.batch())
            self._count_reason(item.reason)
            self._admitted.popleft()
            del self._by_position[item.position]

    def _count_reason(self, reason: str | None) -> None:
        if reason is not None:
            self._rejected[reason] = self._rejected.get(reason, 0) + 1

    def lacks(self, address: Address) -> None:
        """Nothing to do: `finish` finds what is still open."""

    # -- the end -------------------------------------------------------------------------------

    def drain(self) -> list[Batch]:
        batches, self._batches = self._batches, []
        return batches

    def finished(self) -> Literal["completed", "ceiling"] | None:
        if self._accepted >= self._plan.target:
            return "completed"
        exhausted = self._applied >= self._plan.ceiling
        return "ceiling" if exhausted and not self._admitted else None

    def finish(self, unused: Sequence[JournalEntry], *, partial: bool = False) -> list[Batch]:
        """What is admitted beyond the target becomes surplus; with `partial`, an instruction
        that lacks an answer is left out and what follows it is still accepted up to the target."""
        for item in self._admitted:
            if self._accepted >= self._plan.target:
                item.make_surplus()
            elif partial and item.state == "pending":
                item.state, item.reason = "left_out", "no_completion"
            elif item.state == "accepted":
                self._accepted += 1
            self._batches.append(item.batch())
            self._count_reason(item.reason)
        rows: list[CompletionRow] = [
            completion_row(entry, "surplus", "not_needed")
            for entry in sorted([*unused, *self._early.values()], key=lambda entry: entry.address)
        ]
        if rows:
            self._batches.append(Batch("unused", (0,), tuple(rows)))
        return self.drain()

    def progress(self) -> MachineProgress:
        stages = {stage: StageProgress(*self._counts[stage]) for stage in reversed(self.stages)}
        return MachineProgress(
            self._accepted, self._plan.target, stages, dict(self._rejected),
            (
                *untokenized_warning(self._pool.untokenized, self._plan.novelty.tokenizer),
                *self._unclassified_warning(),
            ),
            self._accepted / self._plan.target,
        )  # fmt: skip

    def _unclassified_warning(self) -> tuple[str, ...]:
        if self._unclassified < _SUSPICIOUS or 2 * self._unclassified <= self._classified:
            return ()
        return (
            "most answers to whether a task is a classification task are empty, or reasoning that was "
            "cut; they are taken for no. A teacher that reasons needs more than "
            f"{self._plan.settings.classification.chat.max_tokens} tokens: set "
            "self_instruct.classification.chat.max_tokens",
        )

    def left_out(self) -> list[str]:
        return [
            f"{'.'.join(map(str, item.position))} {item.text}"
            for item in self._admitted
            if item.state == "left_out"
        ]
