"""Warnings that every method that uses the novelty index can have."""

from __future__ import annotations


def untokenized_warning(count: int, tokenizer: str) -> tuple[str, ...]:
    """One warning, with the count, where texts have letters but no tokens; else none."""
    if not count:
        return ()
    return (
        f"{count} texts have letters but no tokens under novelty.tokenizer = '{tokenizer}', so that "
        "nothing can be near them; 'multilingual' compares them",
    )
