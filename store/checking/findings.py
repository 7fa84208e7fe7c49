"""What a check finds, and what is to be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: where, what, and what to type or do."""

    where: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Remedies:
    """The commands that mend a store."""

    store_path: Path

    @property
    def ingest(self) -> str:
        """Where DuckDB lags behind the run directories."""
        return f"type `evoloom store ingest --store {self.store_path}`"

    @property
    def rebuild(self) -> str:
        """Where DuckDB holds something else than the run directories."""
        return f"type `evoloom store rebuild --store {self.store_path}`"

    @property
    def analyse(self) -> str:
        """Where what is worked out of the texts is wrong."""
        return f"type `evoloom store analyse --store {self.store_path}`"

    @property
    def restore(self) -> str:
        """Where the truth itself is damaged."""
        return "restore the run directory from a backup"
