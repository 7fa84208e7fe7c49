"""The examples of a training as token ids, held to the longest length; what does not fit is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.errors import UsageError
from pipeline.student.formatting import IGNORED, Encoded, Template
from pipeline.student.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """What is trained on or measured, and what became of examples that were too long."""

    rows: tuple[Encoded, ...]
    truncated: int
    dropped: int

    @property
    def tokens(self) -> int:
        """Tokens in all, without padding."""
        return sum(len(row.input_ids) for row in self.rows)

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss is taken on."""
        return sum(row.trained_tokens for row in self.rows)


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: Sequence[Example],
    max_length: int,
    too_long: Literal["truncate", "drop"],
) -> EncodedSet:
    """Encode examples, none longer than `max_length` tokens.

    An example of whose response nothing would be left is dropped either way: it teaches nothing.
    """
    rows = []
    truncated = dropped = 0
    for example in examples:
        row = template.encode(tokenizer, example)
        if len(row.input_ids) > max_length:
            row = Encoded(row.input_ids[:max_length], row.labels[:max_length])
            if too_long == "drop" or not row.trained_tokens:
                dropped += 1
                continue
            truncated += 1
        rows.append(row)
    return EncodedSet(tuple(rows), truncated, dropped)


def pack_rows(rows: Sequence[Encoded], max_length: int) -> list[list[Encoded]]:
    """Rows of several examples, at most `max_length` tokens in each: the longest example first, each
    into the fullest row that has room (best-fit decreasing)."""
    by_room: dict[int, list[list[Encoded]]] = {}
    packed: list[list[Encoded]] = []
    for row in sorted(rows, key=lambda row: -len(row.input_ids)):
        size = len(row.input_ids)
        room = next((room for room in range(size, max_length) if by_room.get(room)), None)
        if room is None:
            place: list[Encoded] = []
            packed.append(place)
            room = max_length
        else:
            place = by_room[room].pop()
        place.append(row)
        by_room.setdefault(room - size, []).append(place)
    return packed


def join_packed(row: Sequence[Encoded]) -> dict[str, list[int]]:
    """One packed row as the collator takes it; nothing is learned across the border of two examples."""
    labels = [label for item in row for label in [IGNORED, *item.labels[1:]]]
    return {
        "input_ids": [token for item in row for token in item.input_ids],
        "labels": labels,
        "seq_lengths": [len(item.input_ids) for item in row],
    }


def check_not_empty(encoded: EncodedSet, what: str, max_length: int) -> None:
    """
    Raises:
        UsageError: nothing is left to train on or to measure with.
    """
    if encoded.rows:
        return
    if encoded.dropped:
        raise UsageError(
            f"all {encoded.dropped} {what} examples are longer than training.max_length = "
            f"{max_length} tokens; a longer one, or training.too_long=truncate, keeps some"
        )
    raise UsageError(f"there are no {what} examples")
