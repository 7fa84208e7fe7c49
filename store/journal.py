"""The journal of a run on disk: append-only, checksummed, durable before an outcome is used.

Appends that arrive together share one fsync (group commit), so that durability costs a run with
64 requests in flight a handful of fsyncs a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import EvoloomError
from pipeline.records import Address, Completion, JournalEntry, Refusal, Usage
from store import checked_lines

_LENGTH_BITS = 32


class DuplicateAddressError(EvoloomError):
    """Raised when an address is journaled twice: a bug, or a journal edited by hand."""


def entry_to_json(entry: JournalEntry) -> dict[str, Any]:
    """The JSON object of one journal line."""
    answer = entry.outcome
    outcome: dict[str, Any]
    if isinstance(answer, Refusal):
        outcome = {"kind": "refusal", "why": answer.kind, "message": answer.message}
    else:
        outcome = {
            "kind": "answer",
            "text": answer.text,
            "finish_reason": answer.finish_reason,
            "usage": answer.usage,
            "model": answer.model,
        }
    return {
        "address": str(entry.address),
        "request": entry.request_hash,
        "prompt": entry.prompt_hash,
        "parameters": dict(entry.parameters),
        "outcome": outcome,
        "reserved": entry.reserved_tokens,
        "latency_s": entry.latency_s,
        "at": entry.answered_at,
        "context": dict(entry.context),
    }


def entry_from_json(value: dict[str, Any]) -> JournalEntry:
    """Read one journal line."""
    raw = dict(value["outcome"])
    outcome: Completion | Refusal
    if raw.pop("kind") == "refusal":
        outcome = Refusal(raw["why"], raw["message"])
    else:
        usage = Usage(**raw["usage"]) if raw["usage"] else None
        outcome = Completion(raw["text"], raw["finish_reason"], usage, raw["model"])
    return JournalEntry(
        Address.parse(value["address"]),
        value["request"],
        value["prompt"],
        value["parameters"],
        outcome,
        value["reserved"],
        value["latency_s"],
        value["at"],
        value["context"],
    )


def read_entries(path: Path) -> Iterator[JournalEntry]:
    """Yield the whole entries of a journal that somebody else may be writing."""
    for _, _, value in checked_lines.read(path):
        yield entry_from_json(value)


class FileJournal:
    """A journal opened for appending. Only offsets are kept in memory, not answers."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            DamagedFileError: a line before the last is damaged.
            DuplicateAddressError: an address stands in it twice.
        """
        self._path = path
        self._places: dict[str, int] = {}
        """Where each address's line begins and how long it is, in one number."""
        end = 0
        for start, end, value in checked_lines.read(path):
            self._remember(value["address"], start, end)
        self._file = checked_lines.AppendFile(path, end)
        self._waiting: list[tuple[str, bytes, asyncio.Future[None]]] = []
        self._flusher: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def _remember(self, address: str, start: int, end: int) -> None:
        if address in self._places:
            raise DuplicateAddressError(f"{self._path}: {address} stands in the journal twice")
        self._places[address] = start << _LENGTH_BITS | (end - start)

    def get(self, address: Address) -> JournalEntry | None:
        """The entry at an address, or None."""
        place = self._places.get(str(address))
        if place is None:
            return None
        return self._read(place)

    def entries(self) -> Iterator[JournalEntry]:
        """All durable entries, in the order they were written."""
        for place in list(self._places.values()):
            yield self._read(place)

    def _read(self, place: int) -> JournalEntry:
        start, length = place >> _LENGTH_BITS, place & (1 << _LENGTH_BITS) - 1
        return entry_from_json(self._file.read_line(start, length))

    async def append(self, entry: JournalEntry) -> None:
        """Return when the entry is on disk.

        Raises:
            DuplicateAddressError: the address has an entry.
            OSError: the disk is full or gone; nothing was acknowledged.
        """
        address = str(entry.address)
        if address in self._places:
            raise DuplicateAddressError(f"{self._path}: {address} is journaled already")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((address, checked_lines.encode(entry_to_json(entry)), done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        # A cancelled caller must not cancel the entry: the answer is paid for.
        await asyncio.shield(done)

    async def _flush(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            start = self._file.end
            try:
                await asyncio.to_thread(self._write, b"".join(line for _, line, _ in group))
            except OSError as exc:
                for _, _, done in group:
                    if not done.done():
                        done.set_exception(exc)
                continue
            for address, line, done in group:
                self._remember(address, start, start + len(line))
                start += len(line)
                if not done.done():
                    done.set_result(None)

    def _write(self, data: bytes) -> None:
        end = self._file.end
        try:
            self._file.write(data)
            self._file.sync()
        except OSError:
            self._file.truncate(end)
            raise

    async def drain(self) -> None:
        """Return when nothing is waiting to be written."""
        if self._flusher is not None:
            await self._flusher

    def close(self) -> None:
        """Close the file."""
        self._file.close()
