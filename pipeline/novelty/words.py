"""Compiled: the default tokenizer over bytes, straight to token numbers.

A token of up to 12 of the 36 letters and digits is one 63-bit number in base 37, so that equality
of tokens is equality of numbers. A longer one is a chain: the number of its first 12 characters,
then up to 6 more at a time, each link a (number so far, 6 characters) pair in 64 bits. No hash is
trusted anywhere.
"""

from typing import Any

import numpy as np

from pipeline.novelty.compiled import compiled, integer
from pipeline.novelty.state import IDS, WORDS

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_BASE = np.uint64(37)
_LINK = np.uint64(1 << 63)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = 12
_NEXT = 6


@compiled
def _place(table: Any, key: np.uint64) -> int:
    """Return the slot that holds a key, or the free one where it belongs."""
    mask = np.uint64(len(table) // 2 - 1)
    i = ((key * _GOLDEN) >> np.uint64(32)) & mask
    while True:
        slot = 2 * integer(i)
        if table[slot] == key or table[slot] == _ZERO:
            return slot
        i = (i + _ONE) & mask


@compiled
def _number(table: Any, counters: Any, key: np.uint64, grow: bool) -> int:
    """Return a key's number; -1 for an unknown one, -2 where it is new and the table is full."""
    slot = _place(table, key)
    if table[slot] == key:
        return integer(table[slot + 1])
    if not grow:
        return -1
    if 4 * (counters[WORDS] + 1) > len(table):
        return -2
    number = integer(counters[IDS])
    counters[IDS] += 1
    counters[WORDS] += 1
    table[slot] = key
    table[slot + 1] = np.uint64(number)
    return number


@compiled
def rehash_words(table: Any, larger: Any) -> None:
    """Move all keys to a larger table of zeros."""
    for slot in range(0, len(table), 2):
        if table[slot] != _ZERO:
            place = _place(larger, table[slot])
            larger[place] = table[slot]
            larger[place + 1] = table[slot + 1]


@compiled
def split_some(
    data: Any, table: Any, counters: Any, grow: bool, begin: Any, tokens: Any, starts: Any
) -> bool:
    """Write the token numbers of texts, lower-cased, in UTF-8 and separated by NUL bytes.

    `starts` receives where each text's tokens begin. An unknown token gets, without `grow`, a
    passing number of its own. `begin` holds the byte, text and token to go on with; False means
    that the table was full and the call is to be repeated with a larger one.
    """
    at, text, written = begin[0], begin[1], begin[2]
    size = len(data)
    while at <= size:
        if at == size or data[at] == 0:
            text += 1
            starts[text] = written
            at += 1
            begin[0], begin[1], begin[2] = at, text, written
            continue
        digit = _digit(data[at])
        if digit == 0:
            at += 1
            continue
        number = -1
        left = _FIRST
        value = _ZERO
        known = True
        while True:
            value = value * _BASE + np.uint64(digit)
            left -= 1
            at += 1
            digit = _digit(data[at]) if at < size else 0
            if digit == 0 or left == 0:
                if known:
                    key = value
                    if number >= 0:
                        key = _LINK | np.uint64(number) << np.uint64(32) | value
                    number = _number(table, counters, key, grow)
                    if number == -2:
                        return False
                    known = number >= 0
                if digit == 0:
                    break
                left = _NEXT
                value = _ZERO
        tokens[written] = number if known else counters[IDS] + written
        written += 1
    return True


@compiled
def _digit(byte: int) -> int:
    """Return 1 to 36 for a lower-case ASCII letter or digit, else 0."""
    if 97 <= byte <= 122:
        return byte - 86
    if 48 <= byte <= 57:
        return byte - 47
    return 0
