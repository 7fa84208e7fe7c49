"""Processes that parse, each with a model of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import IO

from pipeline.diversity.records import Method, VerbNoun
from pipeline.errors import EvoloomError

_WORKER = "pipeline.diversity.worker"


class ParserError(EvoloomError):
    """Raised when a process that parses has ended before its work."""


def parse_chunks(
    chunks: Iterable[Sequence[str]], methods: Sequence[Method], processes: int
) -> Iterator[tuple[Sequence[str], list[list[VerbNoun]]]]:
    """Each chunk with what its texts ask for, one list a method; in the order of the chunks.

    The processes are started for the first chunks, as many as there are of these, and end with the
    iterator, whether it is used up, closed or an exception went through it. While a result is used
    they work on the next chunks.

    Raises:
        ParserError: one was killed, or cannot load the model; what it says is on standard error.
    """
    source = iter(chunks)
    working: deque[_Parser] = deque()
    try:
        for chunk in islice(source, processes):
            working.append(_Parser(methods))
            working[-1].give(chunk)
        while working:
            parser = working.popleft()
            done = parser.take()
            following = next(source, None)
            if following is None:
                parser.end()
            else:
                parser.give(following)
                working.append(parser)
            yield done
    finally:
        for parser in working:
            parser.end()


class _Parser:
    """One process. What it is given is taken before it is given more, so that no pipe fills up."""

    def __init__(self, methods: Sequence[Method]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _WORKER, *methods],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each has a core of its own
            start_new_session=True,  # Ctrl-C is for us; it ends with its input
        )
        self._chunk: Sequence[str] = ()

    def give(self, chunk: Sequence[str]) -> None:
        self._chunk = chunk
        # Its end shows when the answer is taken.
        with suppress(BrokenPipeError):
            stdin = self._pipe(self._process.stdin)
            stdin.write(json.dumps(list(chunk)).encode() + b"\n")
            stdin.flush()

    def take(self) -> tuple[Sequence[str], list[list[VerbNoun]]]:
        line = self._pipe(self._process.stdout).readline()
        if not line.endswith(b"\n"):
            self.end()
            raise ParserError(
                f"a process that parses instructions ended (exit status {self._process.returncode}) "
                "before its work was done; if it was killed for memory, take fewer --processes"
            )
        return self._chunk, [[VerbNoun.from_row(row) for row in rows] for rows in json.loads(line)]

    def end(self) -> None:
        with suppress(BrokenPipeError):
            self._pipe(self._process.stdin).close()
        self._process.kill()  # it keeps nothing
        self._process.wait()
        self._pipe(self._process.stdout).close()

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe
