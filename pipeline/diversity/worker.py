"""A process that parses texts for another: `python -m pipeline.diversity.worker METHOD...`.

It reads a JSON list of texts a line and answers each with a line: a list a method, of what each
text asks for. It ends with its input, so that it never outlives whoever started it for longer than
one line takes. A process of its own, since spaCy takes seconds and memory that a run has no use for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import cast

from pipeline.diversity.parsing import parse_texts
from pipeline.diversity.records import Method


def main() -> None:
    """Answer standard input until it ends."""
    methods = cast("Sequence[Method]", sys.argv[1:])
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    for line in sys.stdin:
        found = parse_texts(json.loads(line), methods)
        rows = [[record.to_row() for record in records] for records in found]
        answers.write(json.dumps(rows) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
