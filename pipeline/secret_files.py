"""Secrets that lie in files, as containers are given them.

`EVOLOOM_TEACHER__API_KEY_FILE=/run/secrets/teacher_key` says where the value of
`EVOLOOM_TEACHER__API_KEY` is to be read. Where both are set, the value takes precedence and the file is
not looked at: so a process hands a key on to those it starts, in their environment alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import UsageError

SUFFIX = "_FILE"
_MOST_BYTES = 64 * 2**10


def find_secret(variable: str) -> str | None:
    """The secret that a variable holds, or else the file that `VARIABLE_FILE` names; None: neither is
    set.

    Raises:
        UsageError: the file cannot be read, is empty or no text; the message names the variable.
    """
    if value := os.environ.get(variable):
        return value
    path = os.environ.get(variable + SUFFIX)
    return None if path is None else _read(variable + SUFFIX, path)


def _read(variable: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else None) or exc
        raise UsageError(
            f"environment variable {variable}: {path or 'an empty path'} cannot be read ({reason}); "
            "name a file that holds the secret and nothing else, and that this user may read"
        ) from exc
    if len(data) > _MOST_BYTES:
        raise UsageError(f"environment variable {variable}: {path} is too large for a secret")
    try:
        text = data.decode().strip()
    except UnicodeDecodeError as exc:
        raise UsageError(f"environment variable {variable}: {path} is not text") from exc
    if not text:
        raise UsageError(
            f"environment variable {variable}: {path} is empty; it is to hold the secret and nothing "
            "else"
        )
    return text
