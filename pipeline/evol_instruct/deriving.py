"""An instruction on its way through a round, and a source instruction, as rows of the store."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.evol_instruct.elimination import leaked_phrase, says_nothing, short_apology
from pipeline.evol_instruct.plan import EVOLVE, EvolPlan, SourceInstruction
from pipeline.evol_instruct.settings import EvolInstructSettings, Operator
from pipeline.records import (
    Batch,
    BlockerRow,
    Completion,
    CompletionRow,
    InstanceRow,
    InstructionRow,
    InstructionState,
    JournalEntry,
)
from pipeline.run.rows import completion_row

SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an evolution fails, or a response is not kept: the condition and its evidence."""

    reason: str
    evidence: str | None = None


@dataclass(frozen=True, slots=True)
class Parent:
    """A slot of the frontier: its instruction, and where that stands (`source:NUMBER`, or the
    position of the evolution that made it)."""

    reference: str
    text: str


@dataclass(slots=True)
class Answers:
    """The answers about one instruction, and the rows that they became."""

    rows: list[CompletionRow] = field(default_factory=list)
    difficulty: int | None = None
    is_rated: bool = True
    """Nothing is asked about its difficulty, or that is answered."""

    @property
    def in_order(self) -> tuple[CompletionRow, ...]:
        """The rows, whatever order the answers came in."""
        return tuple(sorted(self.rows, key=lambda row: (row.stage, row.attempt)))

    def take(self, entry: JournalEntry, reason: str | None = None) -> None:
        """Note an answer; with a reason it was of no use."""
        used = isinstance(entry.outcome, Completion) and reason is None
        self.rows.append(completion_row(entry, "used" if used else "discarded", reason))


@dataclass(slots=True)
class Evolution:
    """One position: what one operator made of one instruction."""

    position: int
    round: int
    operator: Operator
    parent: Parent
    text: str = ""
    state: InstructionState = "pending"
    failure: Failure | None = None
    blocker: tuple[BlockerRow, float] | None = None
    response: str | None = None
    is_evolved: bool = False
    """The evolving request is answered."""
    answers: Answers = field(default_factory=Answers)

    @property
    def is_written(self) -> bool:
        """Whether nothing about it is open."""
        return self.state != "pending" and self.answers.is_rated

    def batch(self) -> Batch:
        """All of it, as one batch of the stream `evolve`."""
        place = (self.position,)
        reason, evidence = (
            (self.failure.reason, self.failure.evidence) if self.failure else (None, None)
        )
        blocker, score = self.blocker or (None, None)
        row = InstructionRow(
            EVOLVE, place, self.text, self.state, reason, evidence, score, blocker,
            parent=self.parent.reference, operator=self.operator, round=self.round,
            difficulty=self.answers.difficulty,
        )  # fmt: skip
        instances: tuple[InstanceRow, ...] = ()
        if self.response is not None:
            is_kept = self.state == "accepted"
            instances = (
                InstanceRow(EVOLVE, place, 0, "", self.response,
                            "accepted" if is_kept else "rejected", reason),
            )  # fmt: skip
        return Batch(EVOLVE, place, self.answers.in_order, (row,), instances)


@dataclass(slots=True)
class SourceSlot:
    """A source instruction, what is still asked about it, and its rows."""

    number: int
    source: SourceInstruction
    response: str | None = None
    failure: Failure | None = None
    is_answered: bool = True
    answers: Answers = field(default_factory=Answers)
    is_left_out: bool = False

    @property
    def lacks_output(self) -> bool:
        """Whether no instance has an output, so that its response has to be asked for."""
        return not any(instance.output.strip() for instance in self.source.instances)

    @property
    def is_written(self) -> bool:
        """Whether nothing about it is open."""
        return self.is_answered and self.answers.is_rated

    def batch(self) -> Batch:
        """All of it, as one batch of the stream `source`."""
        place = (self.number,)
        instances = tuple(self._instances())
        state: InstructionState = "accepted"
        reason = evidence = None
        if not any(row.state == "accepted" for row in instances):
            state = "left_out" if self.is_left_out else "without_instances"
            if self.failure is not None:
                reason, evidence = self.failure.reason, self.failure.evidence
        row = InstructionRow(
            SOURCE, place, self.source.instruction, state, reason, evidence,
            is_classification=self.source.is_classification, parent=self.source.origin,
            difficulty=self.answers.difficulty,
        )  # fmt: skip
        return Batch(SOURCE, place, self.answers.in_order, (row,), instances)

    def _instances(self) -> list[InstanceRow]:
        given = [
            InstanceRow(SOURCE, (self.number,), index, item.input, item.output,
                        "accepted" if item.output.strip() else "rejected",
                        None if item.output.strip() else "empty_output",
                        system=item.system, further_turns=item.further_turns)
            for index, item in enumerate(self.source.instances)
        ]  # fmt: skip
        if self.response is None:
            return given
        reason = self.failure.reason if self.failure else None
        state = "accepted" if reason is None else "rejected"
        first = self.source.instances[0].input if self.source.instances else ""
        answered = InstanceRow(
            SOURCE, (self.number,), 0, first, self.response,
            "accepted" if state == "accepted" else "rejected", reason,
        )  # fmt: skip
        return [answered, *given[1:]]


def derive_child(plan: EvolPlan, evolution: Evolution, entry: JournalEntry) -> None:
    """Read the evolving answer: the child, or why there is none."""
    evolution.is_evolved = True
    outcome = entry.outcome
    if not isinstance(outcome, Completion):
        evolution.answers.take(entry)
        evolution.failure = Failure(f"evolve_{outcome.kind}", outcome.message)
        return
    evolution.text = outcome.text.strip()
    if outcome.finish_reason in ("length", "content_filter"):
        # Half an instruction is none, as in Self-Instruct.
        reason = "truncated" if outcome.finish_reason == "length" else "content_filter"
        evolution.answers.take(entry, reason)
        evolution.failure = Failure(f"evolve_{reason}", _extent(evolution.text))
        return
    if not evolution.text:
        evolution.answers.take(entry, "nothing_parsed")
        evolution.failure = Failure("empty")
        return
    evolution.answers.take(entry)
    phrases = plan.settings.leak_phrases
    if phrase := leaked_phrase(evolution.text, evolution.parent.text, phrases):
        evolution.failure = Failure("leaked_prompt", phrase)


def judge_response(
    settings: EvolInstructSettings, outcome: Completion
) -> tuple[str, Failure | None]:
    """The response as it is kept, and why it is not."""
    text = outcome.text.strip()
    if outcome.finish_reason == "content_filter":
        return text, Failure("response_content_filter")
    if found := short_apology(text, settings.sorry_below_words):
        return text, Failure("sorry", found)
    nothing = says_nothing(text)
    if nothing is not None:
        return text, Failure("nothing_said", nothing)
    if outcome.finish_reason == "length" and settings.truncated_responses == "eliminate":
        return text, Failure("response_truncated", _extent(text))
    return text, None


def _extent(text: str) -> str:
    return f"cut after {len(text.split())} words"
