"""What the run needs of a journal; `store.journal` keeps one on disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pipeline.errors import UsageError
from pipeline.records import Address, JournalEntry
from pipeline.run.requests import TeacherRequest


class Journal(Protocol):
    """Outcomes by address, durable before they are used."""

    def get(self, address: Address) -> JournalEntry | None:
        """The entry at an address, or None."""
        ...

    async def append(self, entry: JournalEntry) -> None:
        """Return when the entry is on disk."""
        ...

    def entries(self) -> Iterator[JournalEntry]:
        """All entries, in the order they were written."""
        ...

    def __len__(self) -> int: ...


class ChangedRequestError(UsageError):
    """Raised when a journaled address would now be asked something else."""


def verify(entry: JournalEntry, request: TeacherRequest, *, with_seed: bool = True) -> None:
    """Check that a journaled outcome answers this very request.

    Args:
        with_seed: also compare the sampling seed (not when a run is derived again).

    Raises:
        ChangedRequestError: it does not; the message names what changed.
    """
    same_seed = entry.parameters.get("seed") == request.parameters.get("seed")
    if entry.request_hash == request.request_hash() and (same_seed or not with_seed):
        return
    changed = [
        f"{key} ({entry.parameters.get(key)!r} -> {request.parameters.get(key)!r})"
        for key in sorted({*entry.parameters, *request.parameters})
        if entry.parameters.get(key) != request.parameters.get(key) and (with_seed or key != "seed")
    ]
    if entry.prompt_hash != request.prompt_hash():
        changed.insert(0, "the prompt")
    raise ChangedRequestError(
        f"journal: the answer at {entry.address} belongs to another request; changed: "
        f"{', '.join(changed) or 'the hash itself'}. The run directory or evoloom's derivation was "
        "altered after the answer was paid for; restore it, or use `evoloom rederive`"
    )
