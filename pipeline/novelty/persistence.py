"""A pool in a file: its texts and the settings under which they may be used again.

The texts are the truth and the index is made again from them, which takes seconds for a million;
so the file depends on no implementation and no version of it.
"""

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.novelty.rouge import Rule
from pipeline.novelty.tokenizers import Tokenizer

_FORMAT = "evoloom novelty pool 1"


def write_pool(
    path: str | os.PathLike[str],
    rule: Rule,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    retracted: Sequence[int],
) -> None:
    """Write one file: a JSON line with the settings, the lengths, then the texts in UTF-8."""
    target = Path(path)
    lengths = np.fromiter(map(len, texts), dtype="<u4", count=len(texts)).tobytes()
    # Lone surrogates, which JSON can smuggle into a Python string, must survive too.
    body = lengths + "".join(texts).encode("utf-8", "surrogatepass")
    header = {
        "format": _FORMAT,
        **_settings(rule, tokenizer),
        "entries": len(texts),
        "retracted": list(retracted),
        "sha256": sha256(body).hexdigest(),
    }
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            stream.write(json.dumps(header).encode() + b"\n")
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_pool(
    path: str | os.PathLike[str], rule: Rule, tokenizer: Tokenizer
) -> tuple[list[str], list[int]]:
    """Return the texts and the retracted entries of a file.

    Raises UsageError when the settings differ from those given, naming each, or the file is not
    whole.
    """
    try:
        with Path(path).open("rb") as stream:
            header = _header(stream.readline(), path)
            body = stream.read()
    except OSError as exc:
        raise UsageError(f"{path}: the novelty pool cannot be read: {exc.strerror}.") from exc
    expected = _settings(rule, tokenizer)
    differing = [
        f"{key} is {header.get(key)!r} in the file and {value!r} here"
        for key, value in expected.items()
        if header.get(key) != value
    ]
    if differing:
        raise UsageError(
            f"{path}: this pool was judged under other settings: {'; '.join(differing)}. "
            "Use the same settings, or build a new pool from the texts."
        )
    if sha256(body).hexdigest() != header["sha256"]:
        raise UsageError(f"{path}: the file is damaged or cut off; build the pool again.")
    entries = int(header["entries"])
    lengths = np.frombuffer(body, dtype="<u4", count=entries)
    joined = body[4 * entries :].decode("utf-8", "surrogatepass")
    bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).tolist()
    texts = [joined[start:end] for start, end in pairwise(bounds)]
    return texts, [int(entry) for entry in header["retracted"]]


def _settings(rule: Rule, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "threshold": rule.threshold,
        "at_threshold": rule.at_threshold,
        "tokenizer": tokenizer.name,
        "tokenizer_version": tokenizer.version,
    }


def _header(line: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise UsageError(f"{path}: this is not a novelty pool that evoloom saved.")
    return header
