"""Reads one JSON array element by element, in memory of the longest element."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from pipeline.importing.records import BrokenFileError

_CHUNK_BYTES = 2**16
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_LITERAL = len("-Infinity")
"""An error this near to the end of what was read may only mean that more has to be read."""


def read_array(stream: IO[bytes], max_characters: int) -> Iterator[tuple[int, Any, str]]:
    """Yield (number from 1, value, text) of each element.

    Bytes that are not UTF-8 come as lone surrogates in `text` (PEP 383).

    Raises:
        BrokenFileError: the text is no JSON array from here on; the message names the element.
    """
    buffer = _Buffer(stream)
    if buffer.peek() != "[":
        raise BrokenFileError("no '[' where a JSON array should begin")
    buffer.position += 1
    number = 0
    if buffer.peek() == "]":
        buffer.position += 1
    else:
        closing = ","
        while closing == ",":
            number += 1
            yield (number, *_element(buffer, number, max_characters))
            closing = buffer.peek()
            if closing not in (",", "]"):
                found = repr(closing) if closing else "the end of the file"
                raise BrokenFileError(f"after row {number}: ',' or ']' expected, {found} found")
            buffer.position += 1
    if rest := buffer.peek():
        raise BrokenFileError(f"after the array, which ends with row {number}: {rest!r} found")


def _element(buffer: _Buffer, number: int, max_characters: int) -> tuple[Any, str]:
    buffer.peek()
    step = _CHUNK_BYTES
    while True:
        start = buffer.position
        try:
            value, end = _DECODER.raw_decode(buffer.text, start)
        except json.JSONDecodeError as exc:
            is_cut = (
                exc.msg.startswith("Unterminated string")
                or exc.pos >= len(buffer.text) - _LONGEST_LITERAL
            )
            if not is_cut or buffer.is_ended:
                raise BrokenFileError(f"row {number} is not valid JSON: {exc.msg}") from exc
        except (ValueError, RecursionError) as exc:
            raise BrokenFileError(f"row {number} is not valid JSON: {exc}") from exc
        else:
            # A number at the end of what was read may go on.
            if end < len(buffer.text) or buffer.is_ended:
                buffer.position = end
                return value, buffer.text[start:end]
        if len(buffer.text) - start > max_characters:
            raise BrokenFileError(f"row {number} is longer than {max_characters:,} characters")
        buffer.extend(step)
        step *= 2  # so that a long element is not decoded from its start once a chunk


class _Buffer:
    """Text that has been read and not consumed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self.text = ""
        self.position = 0
        self.is_ended = False

    def extend(self, size: int) -> None:
        """Read more, and forget what was consumed."""
        data = self._stream.read(size)
        self.is_ended = not data
        more = self._decoder.decode(data, final=self.is_ended)
        self.text = self.text[self.position :] + more
        self.position = 0

    def peek(self) -> str:
        """The next character that is not white space, or nothing at the end."""
        while True:
            match = _SPACE.match(self.text, self.position)
            assert match is not None
            self.position = match.end()
            if self.position < len(self.text):
                return self.text[self.position]
            if self.is_ended:
                return ""
            self.extend(_CHUNK_BYTES)


_DECODER = json.JSONDecoder()
