"""The shapes of a row: one function from record to JSON object for each format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from store.exporting.checking import read_turns
from store.exporting.rows import ExportRow
from store.text import storable

ExportFormat: TypeAlias = Literal[
    "alpaca", "sharegpt", "messages", "parquet", "hf", "llama-factory"
]
"""Formats of an export."""
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """What a format is: `encoder`, from all rows (for columns that all must have) to the function
    of one."""

    help: str
    encoder: Callable[[Sequence[ExportRow]], Callable[[ExportRow], Row]]
    is_directory: bool = False
    is_parquet: bool = False
    carries_conversations: bool = True


def _alpaca(row: ExportRow) -> Row:
    return {
        "instruction": storable(row.instruction.text),
        "input": storable(row.instance.input),
        "output": storable(row.instance.output),
    }


def turns_of(row: ExportRow) -> list[tuple[str, str]]:
    """The conversation, as (user, assistant).

    The first message is the instruction with its input, if any, on the next line, as LLaMA-Factory
    joins them: one dataset trains the same conversation in whichever format it is exported.
    """
    text, given = row.instruction.text, row.instance.input
    first = f"{text}\n{given}" if given.strip() else text
    turns = [(first, row.instance.output), *read_turns(row.instance.further_turns)]
    return [(storable(user), storable(assistant)) for user, assistant in turns]


def _conversation(
    list_key: str, role_key: str, text_key: str, user: str, assistant: str
) -> Callable[[ExportRow], Row]:
    def encode(row: ExportRow) -> Row:
        messages = (
            [] if row.instance.system is None else [("system", storable(row.instance.system))]
        )
        for asked, answered in turns_of(row):
            messages += [(user, asked), (assistant, answered)]
        return {list_key: [{role_key: role, text_key: text} for role, text in messages]}

    return encode


_sharegpt = _conversation("conversations", "from", "value", "human", "gpt")
_messages = _conversation("messages", "role", "content", "user", "assistant")


def _table(row: ExportRow) -> Row:
    system = row.instance.system
    return {
        **_alpaca(row),
        "is_classification": row.instruction.is_classification,
        "difficulty": row.instruction.difficulty,
        "system": None if system is None else storable(system),
        "further_turns": [
            {"user": storable(user), "assistant": storable(assistant)}
            for user, assistant in read_turns(row.instance.further_turns)
        ],
    }


def llama_factory_columns(rows: Sequence[ExportRow]) -> dict[str, str]:
    """The `columns` of `dataset_info.json`: those of conversations only where there are any."""
    columns = {"prompt": "instruction", "query": "input", "response": "output"}
    if any(row.instance.system is not None for row in rows):
        columns["system"] = "system"
    if any(row.instance.further_turns is not None for row in rows):
        columns["history"] = "history"
    return columns


def _llama_factory(rows: Sequence[ExportRow]) -> Callable[[ExportRow], Row]:
    """LLaMA-Factory's Alpaca format: the last turn, and those before it as `history`."""
    columns = llama_factory_columns(rows)

    def encode(row: ExportRow) -> Row:
        value = _alpaca(row)
        turns = turns_of(row)
        if len(turns) > 1:
            value = {"instruction": turns[-1][0], "input": "", "output": turns[-1][1]}
        if "system" in columns:
            value["system"] = storable(row.instance.system or "")
        if "history" in columns:
            value["history"] = [list(turn) for turn in turns[:-1]]
        return value

    return encode


FORMATS: Mapping[str, Format] = {
    "alpaca": Format(
        "instruction, input, output", lambda rows: _alpaca, carries_conversations=False
    ),
    "sharegpt": Format("conversations of human and gpt", lambda rows: _sharegpt),
    "messages": Format("OpenAI's messages of user and assistant", lambda rows: _messages),
    "parquet": Format("a table with every column", lambda rows: _table, is_parquet=True),
    "hf": Format(
        "a directory that datasets.load_dataset opens", lambda rows: _table, is_parquet=True,
        is_directory=True,
    ),
    "llama-factory": Format(
        "a directory with dataset_info.json", _llama_factory, is_directory=True
    ),
}  # fmt: skip
