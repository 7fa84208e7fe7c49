"""The split into training and validation: whole lineages, drawn by a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows go to validation, by number, and how many lineages there are on each side."""

    validation: frozenset[int]
    training_roots: int
    validation_roots: int


def split_rows(roots: Sequence[str], texts: Sequence[str], share: float, seed: int) -> Split:
    """Draw about a share of the rows, whole lineages at a time.

    Rows with the same root, or with the same instruction text, stay together, and so does whatever
    is connected through them. Lineages are drawn in a seeded order; the number of validation rows is
    as near to the share as whole lineages allow, and neither side is empty.

    Args:
        roots: the lineage root of each row.
        texts: the instruction text of each row.
        share: of the rows, above 0 and below 1.

    Raises:
        UsageError: the share is out of range, or there are fewer than two lineages.
    """
    if not 0 < share < 1:
        raise UsageError(f"validation share {share}: a number above 0 and below 1 is expected")
    groups = list(_groups(roots, texts))
    if len(groups) < 2:
        raise UsageError(
            "a validation split needs at least two lineages, and all rows descend from "
            f"{len(groups) or 'no'} instruction(s); export without --validation"
        )
    # Their order is that of their first rows: ids hold run ids, and no data may depend on those.
    random.Random(f"{seed}/split").shuffle(groups)  # noqa: S311 - not secret
    # A share is meant as it is written: 0.1 of 15 rows is 1.5 rows, not a hair more.
    drawn = _draw([len(group) for group in groups], Fraction(str(share)) * len(roots))
    rows = frozenset(row for number in drawn for row in groups[number])
    return Split(rows, len(groups) - len(drawn), len(drawn))


def _groups(roots: Sequence[str], texts: Sequence[str]) -> Iterator[list[int]]:
    """Rows by connected component, in the order of their first rows (union-find)."""
    above = list(range(len(roots)))

    def find(row: int) -> int:
        while above[row] != row:
            above[row] = above[above[row]]
            row = above[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for row, (root, text) in enumerate(zip(roots, texts, strict=True)):
        for name in (("root", root), ("text", text)):
            one, other = find(first.setdefault(name, row)), find(row)
            above[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for row in range(len(roots)):
        groups.setdefault(find(row), []).append(row)
    yield from groups.values()


def _draw(sizes: Sequence[int], target: Fraction) -> list[int]:
    """Numbers of some groups, not all, whose sizes add up as near to the target as any do."""
    total = sum(sizes)
    wanted = min(max(round(target), 1), total - 1)
    drawn = []
    left = wanted
    for number, size in enumerate(sizes):
        if size <= left:
            drawn.append(number)
            left -= size
            if not left:
                return drawn
    return _draw_nearest(sizes, target, min(2 * wanted, total - 1))


def _draw_nearest(sizes: Sequence[int], target: Fraction, most: int) -> list[int]:
    """The same where first come, first served does not reach the target: subset sums.

    The sums that groups can reach are the bits of an integer; which group reached a sum first is
    kept, so that what is drawn is nearly all of the first groups and few of the later ones. Sums
    beyond `most` are farther from the target than none at all.
    """
    reached, allowed = 1, (1 << most + 1) - 1
    by: dict[int, int] = {}
    for number, size in enumerate(sizes):
        new = (reached << size) & allowed & ~reached
        reached |= new
        while new:
            low = new & -new
            by[low.bit_length() - 1] = number
            new ^= low
    if not by:  # every lineage is larger than twice the share: the smallest one, then
        return [min(range(len(sizes)), key=sizes.__getitem__)]
    best = min((abs(amount - target), amount) for amount in by)[1]
    drawn = []
    while best:
        drawn.append(by[best])
        best -= sizes[by[best]]
    return drawn
