"""What the driver needs of a method: a state machine that is told outcomes and says what to ask.

A machine is deterministic and knows no clock, no disk and no network. Outcomes may be told in any
order; what it derives depends only on which outcomes it was told, never on their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pipeline.records import Address, Batch, JournalEntry
from pipeline.run.requests import TeacherRequest


@dataclass(frozen=True, slots=True)
class StageProgress:
    """Counts of one stage: addresses answered, and addresses it can name so far."""

    done: int
    known: int


@dataclass(frozen=True, slots=True)
class MachineProgress:
    """Where a run stands, for people: never an input of anything derived."""

    accepted: int
    target: int | None
    """How many are wanted; None where a run has no such number."""
    stages: Mapping[str, StageProgress]
    rejected: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    share_done: float = 0.0
    """How much of the run is done, from 0 to 1; the remaining time is reckoned from it."""
    counted: str = "accepted"
    """What `accepted` counts, in a word."""


class Machine(Protocol):
    """A method's run."""

    @property
    def stages(self) -> Sequence[str]:
        """Stages in the order in which they are sent: downstream first."""
        ...

    def ready(self) -> list[Address]:
        """Addresses that can be asked now and were not named before."""
        ...

    def may_send(self, address: Address) -> bool:
        """The gate: whether this address is worth asking now. It decides only on sending."""
        ...

    def sent(self, address: Address) -> None:
        """Told when an address is sent, for the gate."""
        ...

    def request(self, address: Address) -> TeacherRequest:
        """What a ready address asks; the same whenever it is called."""
        ...

    def context(self, address: Address) -> dict[str, Any]:
        """A note to journal with the outcome of a ready address."""
        ...

    def apply(self, entry: JournalEntry) -> None:
        """Take the outcome of a ready address."""
        ...

    def lacks(self, address: Address) -> None:
        """No answer will come for a ready address: a derivation that asks nobody goes on without
        it, and `finish` with `partial` follows."""
        ...

    def drain(self) -> list[Batch]:
        """Batches derived since the last call, each stream's in position order."""
        ...

    def finished(self) -> Literal["completed", "ceiling"] | None:
        """Whether the run has what it was asked for, or can never have it."""
        ...

    def finish(self, unused: Sequence[JournalEntry], *, partial: bool = False) -> list[Batch]:
        """Called once, at the end of a finished run: the batches of what is surplus.

        Args:
            unused: journaled outcomes that no ready address asked for.
            partial: a derivation from a journal that ends early: what lacks an answer is left out.
        """
        ...

    def left_out(self) -> list[str]:
        """Address and text of what a partial derivation left out."""
        ...

    def progress(self) -> MachineProgress:
        """Counts for people."""
        ...
