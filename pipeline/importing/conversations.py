"""Conversations: ShareGPT's and OpenAI's, as an instruction, an answer and what was said after."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pipeline.importing.containers import kind_of
from pipeline.importing.fields import Fields, check_text
from pipeline.importing.records import BadRowError, ImportedInstance, ImportedTask

_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "model": "assistant", "system": "system", "developer": "system",
}  # fmt: skip
Turn = tuple[str, str]


def read_sharegpt(fields: Fields) -> ImportedTask:
    """A row with `conversations`: objects with `from` and `value` (or `role` and `content`)."""
    return _task(_turns(fields, "conversations"), fields)


def read_messages(fields: Fields) -> ImportedTask:
    """A row with `messages`: objects with `role` and `content`, a text or a list of text parts."""
    return _task(_turns(fields, "messages"), fields)


def read_further_turns(value: Any, name: str) -> tuple[Turn, ...]:
    """A list of [user, assistant], or of objects with these two; or its JSON.

    Raises:
        BadRowError: it is something else.
    """
    if isinstance(value, str):
        if not value.strip():
            return ()
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as exc:
            raise BadRowError("wrong_type", f"{name}: not valid JSON: {exc}") from exc
    if value is None:
        return ()
    if not isinstance(value, list):
        raise BadRowError("wrong_type", f"{name}: a list is expected, found {kind_of(value)}")
    pairs = []
    for number, item in enumerate(value, 1):
        pair = [item.get("user"), item.get("assistant")] if isinstance(item, dict) else item
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BadRowError("wrong_type", f"{name}, item {number}: [user, assistant] is expected")
        pairs.append((check_text(pair[0], name), check_text(pair[1], name)))
    return tuple(pairs)


def kept_system(text: str | None) -> str | None:
    """A system message that says something."""
    return text if text is not None and text.strip() else None


def _turns(fields: Fields, field: str) -> list[Turn]:
    items = fields.value(field)
    if items is None:
        raise BadRowError("missing_field", f"field '{field}' is missing")
    if not isinstance(items, list):
        raise BadRowError("wrong_type", f"field '{field}': a list is expected, found "
                          f"{kind_of(items)}")  # fmt: skip
    return [_turn(item, f"turn {number}") for number, item in enumerate(items, 1)]


def _turn(item: Any, place: str) -> Turn:
    if not isinstance(item, dict):
        raise BadRowError("wrong_type", f"{place}: an object is expected, found {kind_of(item)}")
    said = item.get("from", item.get("role"))
    if said is None:
        raise BadRowError("missing_field", f"{place} does not say who speaks")
    role = _ROLES.get(said.strip().lower()) if isinstance(said, str) else None
    if role is None:
        raise BadRowError("unknown_role", f"{place} is by {said!r:.40}; known: {', '.join(_ROLES)}")
    content = item.get("value", item.get("content"))
    if content is None:
        raise BadRowError("missing_field", f"{place} has no text")
    if isinstance(content, list):
        content = "".join(_parts(content, place))
    return role, check_text(content, place)


def _parts(parts: Iterable[Any], place: str) -> Iterable[str]:
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else kind_of(part)
        if not isinstance(part, dict) or kind != "text":
            raise BadRowError("wrong_type", f"{place} has a part that is no text ({kind!r:.40})")
        yield check_text(part.get("text"), place)


def _task(turns: list[Turn], fields: Fields) -> ImportedTask:
    system = fields.optional_text("system")
    start = 0
    if turns and turns[0][0] == "system":
        system = turns[0][1]
        start = 1
    for number, (role, _) in enumerate(turns[start:], start):
        expected = "user" if (number - start) % 2 == 0 else "assistant"
        if role != expected:
            raise BadRowError(
                "wrong_turn_order",
                f"turn {number + 1} is by the {role}, one by the {expected} is expected",
            )
    texts = [text for _, text in turns[start:]]
    if not texts:
        raise BadRowError("wrong_turn_order", "the conversation has no user message")
    if len(texts) % 2:
        raise BadRowError(
            "wrong_turn_order",
            f"turn {len(turns)}, the last one, is by the user: no answer follows",
        )
    pairs = tuple(zip(texts[::2], texts[1::2], strict=True))
    (instruction, output), further = pairs[0], pairs[1:]
    instance = ImportedInstance("", output, kept_system(system), further)
    return ImportedTask(instruction, (instance,), fields.flag("is_classification"))
