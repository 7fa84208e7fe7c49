"""What a journal leaves open: the addresses that a resumed run would ask next."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import UsageError
from pipeline.records import Address, Completion
from pipeline.run.journal import Journal, verify
from pipeline.run.machine import Machine

_SHOWN = 10


class GiveUpError(UsageError):
    """Raised when an address is given up that is not waiting for an answer."""


def waiting(machine: Machine, journal: Journal) -> list[Address]:
    """Tell a fresh machine all of a journal; the addresses that are ready and have no outcome.

    Raises:
        ChangedRequestError: a journaled answer belongs to another request.
    """
    unanswered = []
    while addresses := machine.ready():
        for address in addresses:
            entry = journal.get(address)
            if entry is None:
                unanswered.append(address)
                continue
            verify(entry, machine.request(address))
            machine.apply(entry)
        machine.drain()
    return sorted(unanswered)


def check_give_up(give_up: Iterable[Address], machine: Machine, journal: Journal) -> None:
    """Check that every address to be given up is one that the run is waiting for.

    Args:
        machine: one that has seen nothing; it is used up.

    Raises:
        GiveUpError: one has an outcome already, or the run does not ask it now.
    """
    wanted = sorted(give_up)
    for address in wanted:
        entry = journal.get(address)
        if entry is not None:
            what = "an answer" if isinstance(entry.outcome, Completion) else entry.outcome.kind
            raise GiveUpError(
                f"--give-up {address}: it is in the journal already ({what}); resume without it"
            )
    unanswered = waiting(machine, journal)
    for address in wanted:
        if address not in unanswered:
            shown = ", ".join(map(str, unanswered[:_SHOWN])) or "none"
            more = f" and {len(unanswered) - _SHOWN} more" if len(unanswered) > _SHOWN else ""
            raise GiveUpError(
                f"--give-up {address}: the run is not waiting for such an address; it waits for: "
                f"{shown}{more}"
            )
