"""Fields of one row, by the names that evoloom gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.importing.containers import kind_of
from pipeline.importing.records import BadRowError

_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class Fields:
    """A row seen through a mapping from our fields to the file's columns."""

    __slots__ = ("_columns", "_row")

    def __init__(self, row: Mapping[str, Any], columns: Mapping[str, str]) -> None:
        self._row = row
        self._columns = columns

    def value(self, field: str) -> Any:
        """What stands in the field's column; None where there is none."""
        return self._row.get(self._columns.get(field, field))

    def text(self, field: str) -> str:
        """A field that must be there.

        Raises:
            BadRowError: it is missing, null or no text.
        """
        value = self.value(field)
        if value is None:
            raise BadRowError("missing_field", f"{self._name(field)} is missing")
        return check_text(value, self._name(field))

    def optional_text(self, field: str) -> str | None:
        """A field that may be missing or null.

        Raises:
            BadRowError: it is no text.
        """
        value = self.value(field)
        return None if value is None else check_text(value, self._name(field))

    def flag(self, field: str) -> bool | None:
        """True or false, also written as yes, no, 1 or 0; None where it is missing or empty.

        Raises:
            BadRowError: it is something else.
        """
        value = self.value(field)
        if value is None or isinstance(value, bool):
            return value
        text = str(value).strip().lower()
        if not text:
            return None
        if text not in _YES:
            raise BadRowError(
                "wrong_type", f"{self._name(field)}: true or false is expected, found {value!r:.40}"
            )
        return _YES[text]

    def rating(self, field: str) -> int | None:
        """A whole number from 1 to 10; None for anything else, which is on a scale not ours."""
        value = self.value(field)
        if isinstance(value, str) and value.strip().isdecimal():
            text = value.strip()
            value = int(text) if len(text) <= 4 else None
        return value if type(value) is int and 1 <= value <= 10 else None

    def _name(self, field: str) -> str:
        column = self._columns.get(field, field)
        return f"field '{field}'" if column == field else f"column '{column}' ({field})"


def check_text(value: Any, name: str) -> str:
    """The value, if it is a text that everything downstream can hold.

    Raises:
        BadRowError: it is none, or holds a null byte.
    """
    if not isinstance(value, str):
        raise BadRowError("wrong_type", f"{name}: a text is expected, found {kind_of(value)}")
    if "\0" in value:
        raise BadRowError("null_byte", f"{name} holds a null byte")
    return value
