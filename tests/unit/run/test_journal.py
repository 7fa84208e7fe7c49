"""The journal on disk: durable before it is acknowledged, in groups, torn tail cut."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.records import Address, Completion, JournalEntry, Refusal, Usage
from store import checked_lines
from store.journal import DuplicateAddressError, FileJournal, read_entries


def entry(number: int, outcome: Completion | Refusal | None = None) -> JournalEntry:
    completion = Completion(f" answer {number} \ud83d\n写", "stop", Usage(10, 3, 2), "m")
    return JournalEntry(
        Address("generate", (number, 2), number % 2),
        "request", "prompt", {"max_tokens": 5, "stop": ["\n\n"], "seed": number},
        outcome or completion, 15, 0.25, "2026-11-21T03:00:00.000+00:00", {"shots": ["seed s_1"]},
    )  # fmt: skip


ENTRIES = [
    entry(0),
    entry(1, Refusal("context_length", "too long")),
    entry(2, Completion("", "length", None)),
]


def write(path: Path, entries: list[JournalEntry]) -> None:
    async def append_all() -> None:
        journal = FileJournal(path)
        await asyncio.gather(*map(journal.append, entries))
        journal.close()

    asyncio.run(append_all())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "journal", ENTRIES)
    return tmp_path / "journal"


def test_entries_are_read_back_as_they_were(path: Path) -> None:
    assert list(read_entries(path)) == ENTRIES
    journal = FileJournal(path)
    assert len(journal) == 3
    assert [journal.get(item.address) for item in ENTRIES] == ENTRIES
    assert journal.get(Address("generate", (0, 2), 1)) is None
    assert list(journal.entries()) == ENTRIES
    journal.close()


def test_an_append_returns_when_its_entry_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    kept = checked_lines.AppendFile.sync

    def sync(file: checked_lines.AppendFile) -> None:
        kept(file)
        synced.append(file.end)

    monkeypatch.setattr(checked_lines.AppendFile, "sync", sync)

    async def scenario() -> None:
        journal = FileJournal(tmp_path / "journal")
        await journal.append(ENTRIES[0])
        assert synced == [(tmp_path / "journal").stat().st_size]
        await journal.append(ENTRIES[1])
        assert len(synced) == 2
        journal.close()

    asyncio.run(scenario())


def test_appends_that_arrive_together_share_an_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    kept = checked_lines.AppendFile.sync
    monkeypatch.setattr(
        checked_lines.AppendFile, "sync", lambda file: (syncs.append(1), kept(file))[1]
    )
    write(tmp_path / "journal", [entry(number) for number in range(64)])
    assert len(list(read_entries(tmp_path / "journal"))) == 64
    assert len(syncs) <= 2


def test_a_cancelled_append_is_written_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = FileJournal(tmp_path / "journal")
        appending = asyncio.create_task(journal.append(ENTRIES[0]))
        await asyncio.sleep(0)
        appending.cancel()
        await asyncio.gather(appending, return_exceptions=True)
        await journal.drain()
        assert journal.get(ENTRIES[0].address) == ENTRIES[0]
        journal.close()

    asyncio.run(scenario())
    assert list(read_entries(tmp_path / "journal")) == ENTRIES[:1]


def test_a_full_disk_acknowledges_nothing_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = checked_lines.AppendFile.write
    path = tmp_path / "journal"

    def fail_half_way(file: checked_lines.AppendFile, data: bytes) -> None:
        kept(file, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        journal = FileJournal(path)
        await journal.append(ENTRIES[0])
        monkeypatch.setattr(checked_lines.AppendFile, "write", fail_half_way)
        with pytest.raises(OSError, match="No space left"):
            await journal.append(ENTRIES[1])
        assert journal.get(ENTRIES[1].address) is None
        monkeypatch.setattr(checked_lines.AppendFile, "write", kept)
        await journal.append(ENTRIES[1])
        await journal.append(ENTRIES[2])
        journal.close()

    asyncio.run(scenario())
    assert list(read_entries(path)) == ENTRIES


def test_a_torn_tail_is_cut_on_opening_and_asked_again(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])
    journal = FileJournal(path)
    assert len(journal) == 2
    assert journal.get(ENTRIES[2].address) is None
    asyncio.run(journal.append(ENTRIES[2]))
    journal.close()
    assert list(read_entries(path)) == ENTRIES


def test_a_damaged_line_in_the_middle_is_an_error(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(checked_lines.DamagedFileError, match="journal: the line at byte 0"):
        FileJournal(path)


def test_an_address_is_journaled_once(path: Path) -> None:
    journal = FileJournal(path)
    with pytest.raises(DuplicateAddressError, match=r"generate/0\.2 is journaled already"):
        asyncio.run(journal.append(replace(ENTRIES[0], latency_s=9.0)))
    journal.close()
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DuplicateAddressError, match=r"generate/0\.2 stands in the journal twice"):
        FileJournal(path)
