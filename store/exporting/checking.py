"""What trainers choke on: nulls, mixed types, empty texts, a turn without its answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.errors import UsageError
from store.exporting.rows import ExportRow, InvalidRowError, place_of

_MOST_SHOWN = 5
_REMEDY = (
    "nothing was written. The run's filters should have kept such a row out: check `evoloom runs "
    "show`, re-derive the run with them on, or import the file again"
)


def check_rows(rows: Sequence[ExportRow]) -> None:
    """Check every row before the first is written.

    Raises:
        InvalidRowError: the message names the first rows that are wrong, and what is.
    """
    problems: list[str] = []
    wrong = 0
    for row in rows:
        found = next(_problems(row), None)
        if found is not None:
            wrong += 1
            if wrong <= _MOST_SHOWN:
                place = place_of(row.instruction)
                problems.append(f"instance {row.instance.index} of instruction {place}: {found}")
    if not wrong:
        return
    more = f"\n  and {wrong - _MOST_SHOWN} more" if wrong > _MOST_SHOWN else ""
    if wrong == 1:
        raise InvalidRowError(f"{problems[0]}, which trainers choke on; {_REMEDY}")
    listed = "\n  ".join(problems)
    raise InvalidRowError(f"{wrong} rows that trainers choke on; {_REMEDY}\n  {listed}{more}")


def check_single_turns(rows: Sequence[ExportRow], format: str, carriers: Sequence[str]) -> None:
    """Refuse conversations for a format that has no place for them.

    Raises:
        UsageError: there are some; the message says how many, and which formats carry them.
    """
    further = sum(row.instance.further_turns is not None for row in rows)
    system = sum(row.instance.system is not None for row in rows)
    if further or system:
        raise UsageError(
            f"format {format} has no place for conversations: of {len(rows)} rows {further} have "
            f"further turns and {system} a system message. Formats that carry them: "
            f"{', '.join(carriers)}"
        )


def read_turns(text: str | None) -> list[tuple[str, str]]:
    """The turns after the first answer, as (user, assistant); none where there is no text.

    Raises:
        ValueError: they are not a list of pairs of texts that are not empty; the message says which.
    """
    if text is None:
        return []
    value = json.loads(text)
    if not isinstance(value, list):
        raise ValueError("further turns are no list")
    turns = []
    for number, turn in enumerate(value, 2):
        if not isinstance(turn, list) or len(turn) != 2:
            raise ValueError(f"turn {number} is no pair of a user's message and its answer")
        for name, message in zip(("user's message", "answer"), turn, strict=True):
            if problem := _text_problem(message):
                raise ValueError(f"turn {number}: the {name} is {problem}")
        turns.append((turn[0], turn[1]))
    return turns


def _problems(row: ExportRow) -> Iterator[str]:
    # The spool is JSON, so that any type is possible whatever the records' types say.
    instruction: Any = row.instruction
    instance: Any = row.instance
    for name, value in (("instruction", instruction.text), ("output", instance.output)):
        if problem := _text_problem(value):
            yield f"{name} is {problem}"
    if not isinstance(instance.input, str):
        yield f"input is {instance.input!r}"
    if instance.system is not None and (problem := _text_problem(instance.system)):
        yield f"system is {problem}"
    try:
        read_turns(instance.further_turns)
    except (ValueError, TypeError) as exc:
        yield f"wrong order of turns: {exc}"
    if not isinstance(instruction.is_classification, bool | None):
        yield f"is_classification is {instruction.is_classification!r}"
    difficulty = instruction.difficulty
    if not isinstance(difficulty, int | None) or isinstance(difficulty, bool):
        yield f"difficulty is {difficulty!r}"


def _text_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return repr(value)
    return None if value.strip() else "empty"
