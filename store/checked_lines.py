"""Append-only files of checksummed JSON lines: the journal and the spool are both of this form.

A line is ``CRC32 JSON\\n``: eight hex digits of the JSON's bytes, a space, the JSON. A crash can
leave a torn last line; it was never acknowledged to anybody, so it is cut when the file is opened
for writing. A damaged line *before* the last one is not a crash but a broken disk or an editor:
that is an error, never a silent cut.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import EvoloomError


class DamagedFileError(EvoloomError):
    """Raised when a checksummed line that is not the last one does not match its checksum."""


def encode(value: Any) -> bytes:
    """One line, checksum and newline included; slotted records become objects of their fields."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_fields)
    body = text.encode("utf-8", "surrogatepass")
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _fields(record: Any) -> dict[str, Any]:
    """The fields of a slotted record, for the encoder; `dataclasses.asdict` takes thrice as long."""
    return {name: getattr(record, name) for name in record.__slots__}


def decode(line: bytes) -> Any:
    """The value of a line with its newline.

    Raises:
        ValueError: the line is torn or does not match its checksum.
    """
    if not line.endswith(b"\n") or len(line) < 10 or line[8:9] != b" ":
        raise ValueError("torn line")
    body = line[9:-1]
    if int(line[:8], 16) != zlib.crc32(body):
        raise ValueError("checksum mismatch")
    return json.loads(body.decode("utf-8", "surrogatepass"))


def read(path: Path, offset: int = 0) -> Iterator[tuple[int, int, Any]]:
    """Yield (start, end, value) of every whole line from byte `offset` on; a torn tail is left.

    Raises:
        DamagedFileError: a line other than the last one is damaged.
    """
    if not path.exists():
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(offset)
        start = offset
        for line in file:
            end = start + len(line)
            try:
                value = decode(line)
            except ValueError as exc:
                if end >= size:
                    return
                raise DamagedFileError(
                    f"{path}: the line at byte {start} does not match its checksum ({exc}); "
                    "restore the file from a backup, or remove the run directory"
                ) from exc
            yield start, end, value
            start = end


class AppendFile:
    """A checksummed-lines file opened for appending, torn tail cut."""

    def __init__(self, path: Path, valid_end: int) -> None:
        created = not path.exists()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._fd, valid_end)
        os.lseek(self._fd, valid_end, os.SEEK_SET)
        if created:
            fsync_directory(path.parent)
        self.end = valid_end

    def write(self, data: bytes) -> None:
        """Append whole lines; not durable before `sync`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.end += len(data)

    def sync(self) -> None:
        """Return when everything written is on disk."""
        os.fdatasync(self._fd)

    def read_line(self, offset: int, length: int) -> Any:
        """The value of the line at `offset`."""
        return decode(os.pread(self._fd, length, offset))

    def truncate(self, end: int) -> None:
        """Forget what a failed write left after `end`."""
        os.ftruncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)
        self.end = end

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def fsync_directory(path: Path) -> None:
    """Make a rename or a new name in `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a reader, or a crash, sees the old or the new, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)
