"""What the index answers with."""

from dataclasses import dataclass
from typing import NamedTuple


class Admission(NamedTuple):
    """The decision on one text.

    `blocker` is the text of the earliest pool entry that keeps this text out, `blocker_entry` its
    entry number and `score` its ROUGE-L F-measure with this text (0 to 1). All three are None when
    the text is admitted. `entry` is the number under which it joined the pool; None when it was
    rejected or only checked.
    """

    admitted: bool
    blocker: str | None = None
    score: float | None = None
    blocker_entry: int | None = None
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One pool entry near a text: its entry number, its text, its ROUGE-L F-measure (0 to 1)."""

    entry: int
    text: str
    score: float
