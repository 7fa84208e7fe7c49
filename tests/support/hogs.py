"""Another program that has a DuckDB file open, for as long as a test likes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

_HOG = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read_only")
connection.execute("SELECT count(*) FROM runs").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def hog(database: Path, mode: Literal["read_only", "read_write"]) -> Iterator[int]:
    """Another process with the file open; its process id."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOG, str(database), mode],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "open\n"
        yield process.pid
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
