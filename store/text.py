"""Text as DuckDB, Arrow and a UTF-8 file can hold it."""

from __future__ import annotations

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """Join split surrogate pairs and replace lone surrogates by U+FFFD.

    A teacher's JSON may hold them (`"\\ud83d"`, an emoji cut in half). The journal and the spool keep
    them as they came; nothing that reads UTF-8 does.
    """
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
