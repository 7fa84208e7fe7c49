"""Which weights exactly: the hash of a model's or an adapter's folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.errors import UsageError

_NOT_THE_MODEL = frozenset({"README.md", ".gitattributes", "complete.json"})


def hash_folder(folder: Path) -> str:
    """The hash of names and contents of all files below a folder, descriptions left out.

    Raises:
        UsageError: the folder is missing, empty or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        names = sorted(
            path.relative_to(folder)
            for path in folder.rglob("*")
            if path.is_file() and path.name not in _NOT_THE_MODEL
        )
        for name in names:
            with (folder / name).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{content} {name.as_posix()}\n".encode())
    except OSError as exc:
        raise UsageError(f"{folder}: cannot be read: {exc.strerror or exc}") from exc
    if not names:
        raise UsageError(f"{folder}: holds no model")
    return digest.hexdigest()
