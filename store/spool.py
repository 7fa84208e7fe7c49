"""The spool: batches of derived rows, whole positions in order, fsynced before anybody ingests them.

The spool is derived data (the journal can derive it again), kept so that DuckDB can be fed, or made
again from nothing, without replaying a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.records import (
    Batch,
    BlockerRow,
    CompletionRow,
    InstanceRow,
    InstructionRow,
    Position,
    ShotRecord,
    Usage,
)
from store import checked_lines


def batch_from_json(value: dict[str, Any]) -> Batch:
    """Read one spool line back into the records it was made of."""
    return Batch(
        value["stream"],
        tuple(value["position"]),
        tuple(_completion(row) for row in value["completions"]),
        tuple(_instruction(row) for row in value["instructions"]),
        tuple(InstanceRow(**{**row, "position": tuple(row["position"])})
              for row in value["instances"]),
    )  # fmt: skip


def _completion(row: dict[str, Any]) -> CompletionRow:
    usage = Usage(**row["usage"]) if row["usage"] else None
    shots = tuple(ShotRecord(**shot) for shot in row["shots"])
    return CompletionRow(
        **{**row, "position": tuple(row["position"]), "usage": usage, "shots": shots}
    )


def _instruction(row: dict[str, Any]) -> InstructionRow:
    blocker = BlockerRow(**row["blocker"]) if row["blocker"] else None
    return InstructionRow(**{**row, "position": tuple(row["position"]), "blocker": blocker})


def read_batches(path: Path, offset: int = 0) -> Iterator[tuple[int, Batch]]:
    """Yield (end offset, batch) from byte `offset` on; a torn tail is left for the writer to cut."""
    for _, end, value in checked_lines.read(path, offset):
        yield end, batch_from_json(value)


class Spool:
    """The writer's end. A batch at or below its stream's watermark is skipped, so that a replay
    writes each position once, whatever number of crashes came before."""

    def __init__(self, path: Path) -> None:
        self.watermarks: dict[str, Position] = {}
        end = 0
        for _, line_end, value in checked_lines.read(path):
            end = line_end
            self.watermarks[value["stream"]] = tuple(value["position"])
        self._file = checked_lines.AppendFile(path, end)

    def write(self, batches: Sequence[Batch]) -> None:
        """Append batches. They are durable, and may be ingested, after `sync`."""
        lines = []
        for batch in batches:
            if batch.position <= self.watermarks.get(batch.stream, ()):
                continue
            self.watermarks[batch.stream] = batch.position
            lines.append(checked_lines.encode(batch))
        if lines:
            self._file.write(b"".join(lines))

    def sync(self) -> None:
        """Return when everything written is on disk."""
        self._file.sync()

    def close(self) -> None:
        """Make everything durable and close the file."""
        try:
            self._file.sync()
        finally:
            self._file.close()
