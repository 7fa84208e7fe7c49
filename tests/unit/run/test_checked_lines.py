"""Append-only checksummed lines: torn tails are cut, damage before the tail is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.checked_lines import (
    AppendFile,
    DamagedFileError,
    decode,
    encode,
    read,
    write_atomically,
)

VALUES = [{"a": 1}, {"text": '写诗 \ud83d\n\r\u2028 "quoted"'}, {"empty": ""}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "lines").write_bytes(b"".join(map(encode, VALUES)))
    return tmp_path / "lines"


def values(path: Path, offset: int = 0) -> list[object]:
    return [value for _, _, value in read(path, offset)]


def test_what_is_written_is_read_back(path: Path) -> None:
    assert values(path) == VALUES
    places = [(start, end) for start, end, _ in read(path)]
    assert values(path, places[1][0]) == VALUES[1:]
    assert places[-1][1] == path.stat().st_size


def test_a_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert values(tmp_path / "none") == []


def test_a_tail_torn_anywhere_is_cut_on_opening(path: Path) -> None:
    whole = path.read_bytes()
    last = len(encode(VALUES[-1]))
    for cut in range(1, last):
        path.write_bytes(whole[:-cut])
        assert values(path) == VALUES[:-1]
        *_, (_, end, _) = read(path)
        file = AppendFile(path, end)
        file.write(encode({"after": cut}))
        file.close()
        assert values(path) == [*VALUES[:-1], {"after": cut}]


def test_a_damaged_line_before_the_last_is_an_error_that_names_file_and_place(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    second = len(encode(VALUES[0]))
    whole[second + 20] ^= 1
    path.write_bytes(bytes(whole))
    with pytest.raises(DamagedFileError, match=rf"lines: the line at byte {second} .*checksum"):
        values(path)


def test_a_line_removed_from_the_middle_of_another_is_an_error(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:5] + whole[9:])
    with pytest.raises(DamagedFileError):
        values(path)


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"zzzzzzzz {}\n", b"00000000 {}\n", encode({})[:-1], b"00000000{}\n"]
)
def test_what_is_no_line(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"torn|checksum|invalid literal"):
        decode(line)


def test_truncate_forgets_what_a_failed_write_left(path: Path) -> None:
    file = AppendFile(path, path.stat().st_size)
    end = file.end
    os.write(file._fd, b"half a li")
    file.truncate(end)
    file.write(encode({"next": 1}))
    file.sync()
    assert file.read_line(end, file.end - end) == {"next": 1}
    file.close()
    assert values(path) == [*VALUES, {"next": 1}]


def test_an_atomic_write_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    for data in (b"old", b"new"):
        write_atomically(tmp_path / "file", data)
        assert (tmp_path / "file").read_bytes() == data
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
