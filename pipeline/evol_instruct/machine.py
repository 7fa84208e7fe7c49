"""Evol-Instruct as a state machine: told outcomes in any order, it derives the same rows.

Each slot of the frontier goes its own way through the rounds; a breadth child alone waits, for the
breadth children before it, because novelty is judged in position order (DESIGN.md, Addresses).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pipeline.evol_instruct.asking import Asker
from pipeline.evol_instruct.breadth import BreadthPool
from pipeline.evol_instruct.deriving import (
    Answers,
    Evolution,
    Failure,
    Parent,
    SourceSlot,
    derive_child,
    judge_response,
)
from pipeline.evol_instruct.judging import parse_judgement, parse_rating
from pipeline.evol_instruct.operators import draw_operator
from pipeline.evol_instruct.plan import (
    EVOLVE,
    JUDGE,
    RATE,
    RATE_SOURCE,
    RESPOND,
    RESPOND_SOURCE,
    STAGES,
    EvolPlan,
)
from pipeline.records import Address, Batch, Completion, InstructionState, JournalEntry
from pipeline.run.machine import MachineProgress, StageProgress
from pipeline.run.requests import TeacherRequest
from pipeline.run.rows import completion_row
from pipeline.run.warnings import untokenized_warning


class EvolInstructMachine:
    """The run of one plan. See `pipeline.run.machine.Machine` for the methods."""

    stages = STAGES

    def __init__(self, plan: EvolPlan) -> None:
        self._plan = plan
        self._asker = Asker(plan)
        self._pool = BreadthPool(plan)
        self._size = len(plan.source)
        self._frontier = [
            Parent(f"source:{slot}", item.text) for slot, item in enumerate(plan.source)
        ]
        self._sources = {slot: SourceSlot(slot, item) for slot, item in enumerate(plan.source)}
        self._evolutions: dict[int, Evolution] = {}
        self._compared = 0
        self._written = {EVOLVE: 0, "source": 0}
        self._newly_ready: list[Address] = []
        self._batches: list[Batch] = []
        self._accepted = 0
        self._rejected: dict[str, int] = {}
        self._counts = {stage: [0, 0] for stage in self.stages}
        self._left_out: list[str] = []
        for slot in self._sources.values():
            self._open_source(slot)
        for position in range(self._size):
            self._offer(position)

    # -- what to ask ---------------------------------------------------------------------------

    def ready(self) -> list[Address]:
        ready, self._newly_ready = self._newly_ready, []
        for address in ready:
            self._counts[address.stage][1] += 1
        return ready

    def may_send(self, address: Address) -> bool:
        return True

    def sent(self, address: Address) -> None:
        pass

    def request(self, address: Address) -> TeacherRequest:
        number = address.position[0]
        if address.stage == RESPOND_SOURCE:
            return self._asker.response(address, self._sources[number].source.text)
        if address.stage == RATE_SOURCE:
            return self._asker.rating(address, self._sources[number].source.text)
        evolution = self._evolutions[number]
        if address.stage == EVOLVE:
            return self._asker.evolution(address, evolution.operator, evolution.parent.text)
        if address.stage == JUDGE:
            return self._asker.judgement(address, evolution.parent.text, evolution.text)
        if address.stage == RESPOND:
            return self._asker.response(address, evolution.text)
        return self._asker.rating(address, evolution.text)

    def context(self, address: Address) -> dict[str, Any]:
        if address.stage != EVOLVE:
            return {}
        return {"operator": self._evolutions[address.position[0]].operator}

    def _ask(self, stage: str, number: int, attempt: int = 0) -> None:
        self._newly_ready.append(Address(stage, (number,), attempt))

    def _offer(self, position: int) -> None:
        operator = draw_operator(self._plan.run_seed, position, self._plan.settings)
        round_, slot = divmod(position, self._size)
        self._evolutions[position] = Evolution(position, round_, operator, self._frontier[slot])
        self._ask(EVOLVE, position)

    def _open_source(self, slot: SourceSlot) -> None:
        if slot.lacks_output:
            slot.is_answered = False
            self._ask(RESPOND_SOURCE, slot.number)
        if self._plan.settings.difficulty:
            slot.answers.is_rated = False
            self._ask(RATE_SOURCE, slot.number)

    # -- what was answered ---------------------------------------------------------------------

    def apply(self, entry: JournalEntry) -> None:
        stage, (number,) = entry.address.stage, entry.address.position
        self._counts[stage][0] += 1
        if stage == RESPOND_SOURCE:
            self._apply_source_response(self._sources[number], entry)
        elif stage == RATE_SOURCE:
            self._apply_rating(self._sources[number].answers, entry)
        elif stage == EVOLVE:
            self._apply_evolution(self._evolutions[number], entry)
        elif stage == JUDGE:
            self._apply_judgement(self._evolutions[number], entry)
        elif stage == RESPOND:
            self._apply_response(self._evolutions[number], entry)
        else:
            self._apply_rating(self._evolutions[number].answers, entry)
        self._advance()

    def lacks(self, address: Address) -> None:
        """No answer will come for this ready address: a derivation that asks nobody.

        An evolution without it is left out, and its parent goes on to the next round.
        """
        stage, (number,) = address.stage, address.position
        if stage == RATE_SOURCE:
            self._sources[number].answers.is_rated = True
        elif stage == RESPOND_SOURCE:
            self._sources[number].is_answered = True
            self._sources[number].is_left_out = True
            self._left_out.append(f"source/{number} {self._sources[number].source.instruction}")
        elif stage == RATE:
            self._evolutions[number].answers.is_rated = True
        else:
            evolution = self._evolutions[number]
            evolution.is_evolved = True
            self._left_out.append(f"{EVOLVE}/{number} {evolution.text or evolution.parent.text}")
            self._settle(evolution, "left_out", Failure("no_completion"))
        self._advance()

    def _apply_evolution(self, evolution: Evolution, entry: JournalEntry) -> None:
        derive_child(self._plan, evolution, entry)
        if evolution.failure is not None:
            self._settle(evolution, "rejected", evolution.failure)
        elif evolution.operator != "breadth":
            self._ask(JUDGE, evolution.position)

    def _compare_breadth(self) -> None:
        """Judge the novelty of breadth children as far as those before them are known."""
        while self._compared < self._plan.positions:
            position = self._compared
            settings = self._plan.settings
            if (
                position >= self._written[EVOLVE]
                and draw_operator(self._plan.run_seed, position, settings) == "breadth"
            ):
                evolution = self._evolutions.get(position)
                if evolution is None or not evolution.is_evolved:
                    return
                if evolution.state == "pending":
                    self._compare(evolution)
            self._compared += 1

    def _compare(self, evolution: Evolution) -> None:
        evolution.blocker = self._pool.admit(evolution.position, evolution.text)
        if evolution.blocker is None:
            self._ask(JUDGE, evolution.position)
        else:
            self._settle(evolution, "rejected", Failure("not_novel"))

    def _apply_judgement(self, evolution: Evolution, entry: JournalEntry) -> None:
        outcome = entry.outcome
        if not isinstance(outcome, Completion):
            evolution.answers.take(entry)
            self._settle(evolution, "rejected", Failure(f"judge_{outcome.kind}", outcome.message))
            return
        is_equal = parse_judgement(outcome.text)
        evolution.answers.take(entry, "unparsable" if is_equal is None else None)
        if is_equal is None and entry.address.attempt < self._plan.re_asks:
            self._ask(JUDGE, evolution.position, entry.address.attempt + 1)
        elif is_equal is None:
            self._settle(evolution, "rejected", Failure("judge_unparsable", outcome.text[:200]))
        elif is_equal:
            said = outcome.text.strip()[:200]
            self._settle(evolution, "rejected", Failure("no_information_gain", said))
        else:
            self._ask(RESPOND, evolution.position)

    def _apply_response(self, evolution: Evolution, entry: JournalEntry) -> None:
        outcome = entry.outcome
        evolution.answers.take(entry)
        if not isinstance(outcome, Completion):
            failure = Failure(f"response_{outcome.kind}", outcome.message)
            self._settle(evolution, "rejected", failure)
            return
        evolution.response, found = judge_response(self._plan.settings, outcome)
        self._settle(evolution, "accepted" if found is None else "rejected", found)

    def _apply_source_response(self, slot: SourceSlot, entry: JournalEntry) -> None:
        outcome = entry.outcome
        slot.is_answered = True
        slot.answers.take(entry)
        if isinstance(outcome, Completion):
            slot.response, slot.failure = judge_response(self._plan.settings, outcome)
        else:
            slot.failure = Failure(f"response_{outcome.kind}", outcome.message)

    def _apply_rating(self, answers: Answers, entry: JournalEntry) -> None:
        outcome = entry.outcome
        if isinstance(outcome, Completion):
            answers.difficulty = parse_rating(outcome.text)
        is_read = answers.difficulty is not None
        answers.take(entry, None if is_read else "unparsable")
        attempt = entry.address.attempt
        if isinstance(outcome, Completion) and not is_read and attempt < self._plan.re_asks:
            self._ask(entry.address.stage, entry.address.position[0], attempt + 1)
        else:
            answers.is_rated = True

    def _settle(
        self, evolution: Evolution, state: InstructionState, failure: Failure | None
    ) -> None:
        """Close an evolution and hand its slot on: the child if it succeeded, else its parent."""
        evolution.state, evolution.failure = state, failure
        if state == "accepted":
            self._frontier[evolution.position % self._size] = Parent(
                str(evolution.position), evolution.text
            )
            if self._plan.settings.difficulty:
                evolution.answers.is_rated = False
                self._ask(RATE, evolution.position)
        following = evolution.position + self._size
        if following < self._plan.positions:
            self._offer(following)

    def _advance(self) -> None:
        self._compare_breadth()
        while (slot := self._sources.get(self._written["source"])) and slot.is_written:
            self._write("source", slot.batch())
            del self._sources[slot.number]
        while (child := self._evolutions.get(self._written[EVOLVE])) and child.is_written:
            self._write(EVOLVE, child.batch())
            del self._evolutions[child.position]

    def _write(self, stream: str, batch: Batch) -> None:
        (row,) = batch.instructions
        self._accepted += row.state == "accepted"
        if row.reason is not None:
            self._rejected[row.reason] = self._rejected.get(row.reason, 0) + 1
        self._batches.append(batch)
        self._written[stream] += 1

    # -- the end -------------------------------------------------------------------------------

    def drain(self) -> list[Batch]:
        self._advance()
        batches, self._batches = self._batches, []
        return batches

    def finished(self) -> Literal["completed", "ceiling"] | None:
        is_done = self._written == {EVOLVE: self._plan.positions, "source": self._size}
        return "completed" if is_done else None

    def finish(self, unused: Sequence[JournalEntry], *, partial: bool = False) -> list[Batch]:
        """Nothing is beyond the target here; what nobody asked for is shown as surplus."""
        rows = [
            completion_row(entry, "surplus", "not_needed")
            for entry in sorted(unused, key=lambda entry: entry.address)
        ]
        if rows:
            self._batches.append(Batch("unused", (0,), tuple(rows)))
        return self.drain()

    def progress(self) -> MachineProgress:
        stages = {
            stage: StageProgress(*self._counts[stage])
            for stage in reversed(self.stages)
            if self._counts[stage][1] or stage in (EVOLVE, JUDGE, RESPOND)
        }
        done = sum(self._written.values())
        total = self._plan.positions + self._size
        return MachineProgress(
            self._accepted, None, stages, dict(self._rejected),
            untokenized_warning(self._pool.untokenized, self._plan.novelty.tokenizer),
            done / total,
        )  # fmt: skip

    def left_out(self) -> list[str]:
        return list(self._left_out)
