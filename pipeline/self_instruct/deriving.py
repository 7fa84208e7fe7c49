"""From a journaled outcome to rows: parse, filter, judge novelty. No clock, no order but the given."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from pipeline.records import (
    Batch,
    Completion,
    CompletionRow,
    InstanceRow,
    InstructionRow,
    InstructionState,
    JournalEntry,
    Position,
)
from pipeline.run.rows import completion_row
from pipeline.self_instruct.filters import filter_instances, reject_reason
from pipeline.self_instruct.parsing import (
    parse_input_first,
    parse_instructions,
    parse_output_first,
)
from pipeline.self_instruct.plan import SelfInstructPlan
from pipeline.self_instruct.pool import TaskPool


@dataclass(slots=True)
class Admitted:
    """An admitted instruction on its way to being settled."""

    admission: InstructionRow
    state: InstructionState = "pending"
    reason: str | None = None
    is_classification: bool | None = None
    entries: list[JournalEntry] = field(default_factory=list)
    instances: tuple[InstanceRow, ...] = ()

    @property
    def position(self) -> Position:
        """Its address (g, i)."""
        return self.admission.position

    @property
    def text(self) -> str:
        """The instruction."""
        return self.admission.text

    def row(self) -> InstructionRow:
        """The instruction as it stands now."""
        return replace(
            self.admission,
            state=self.state,
            reason=self.reason,
            is_classification=self.is_classification,
        )

    def make_surplus(self) -> None:
        """Settled or not, it came after the target was reached."""
        self.state, self.reason = "surplus", "after_target"
        self.instances = tuple(
            replace(row, state="surplus") if row.state == "accepted" else row
            for row in self.instances
        )

    def batch(self) -> Batch:
        """What was derived for it, as one batch of the stream `settle`."""
        completions = tuple(
            completion_row(entry, "used" if isinstance(entry.outcome, Completion) else "discarded")
            for entry in self.entries
        )
        return Batch("settle", self.position, completions, (self.row(),), self.instances)


def derive_instructions(
    plan: SelfInstructPlan, pool: TaskPool, entry: JournalEntry, g: int
) -> tuple[CompletionRow, list[InstructionRow]]:
    """Rows of a generation outcome; what is new joins the pool. Published order of the filters.

    A completion cut by its length is discarded as a whole, as published.
    """
    outcome = entry.outcome
    if not isinstance(outcome, Completion):
        return completion_row(entry, "discarded"), []
    if outcome.finish_reason in ("length", "content_filter"):
        reason = "truncated" if outcome.finish_reason == "length" else "content_filter"
        return completion_row(entry, "discarded", reason), []
    texts = parse_instructions(
        outcome.text,
        first_number=len(entry.context.get("shots", ())) + 1,
        numbering=plan.settings.numbering,
        published_casing=plan.settings.published_casing,
    )
    rows = [_judge(plan, pool, (g, i), text) for i, text in enumerate(texts)]
    return completion_row(entry, "used", None if rows else "nothing_parsed"), rows


def _judge(plan: SelfInstructPlan, pool: TaskPool, position: Position, text: str) -> InstructionRow:
    rejection = reject_reason(text, plan.filters)
    if rejection is not None:
        reason, evidence = rejection.reason, rejection.evidence
        return InstructionRow("generate", position, text, "rejected", reason, evidence or None)
    blocked = pool.admit(position, text)
    if blocked is None:
        return InstructionRow("generate", position, text, "pending")
    blocker, score = blocked
    return InstructionRow("generate", position, text, "rejected", "not_novel", None, score, blocker)


def derive_instances(
    plan: SelfInstructPlan, item: Admitted, entry: JournalEntry
) -> tuple[InstructionState, str | None]:
    """Fill in the instances of an admitted instruction; returns its state and the reason of one
    without instances."""
    outcome = entry.outcome
    if not isinstance(outcome, Completion):
        return "without_instances", f"instances_{outcome.kind}"
    parse = parse_output_first if item.is_classification else parse_input_first
    parsed = parse(outcome.text, truncated=outcome.finish_reason == "length")
    g, i = item.position
    rng = random.Random(f"{plan.run_seed}/instances/{g}.{i}")  # noqa: S311 - not secret
    verdicts = filter_instances(parsed, settings=plan.instance_filters, rng=rng)
    item.instances = tuple(
        InstanceRow(
            "generate",
            item.position,
            index,
            verdict.instance.input,
            verdict.instance.output,
            "accepted" if verdict.kept else "rejected",
            verdict.reason,
        )
        for index, verdict in enumerate(verdicts)
    )
    if any(verdict.kept for verdict in verdicts):
        return "accepted", None
    return "without_instances", "nothing_parsed" if not verdicts else "all_instances_rejected"
