"""Evaluations as run directories: their files, and the answers that are recorded in them.

A configuration scores an evaluation file once: what an earlier evaluation of the store was answered,
to the same request under the same key, is taken from there. That a request was too long is not: the
context may have been enlarged since. The key is the hash of base, adapter,
file and decoding (`pipeline.student.evaluation.identity`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.records import JournalEntry, Refusal
from store.journal import read_entries
from store.run_writer import JOURNAL

KIND = "evaluation"
ANSWERS = "answers"
"""The journal of the students' answers; the judge's are in the run's own."""
ITEMS, EVALUATED, SCORES, RESULTS = "items.jsonl", "evaluated.jsonl", "scores.jsonl", "results.json"
"""What is asked; at the end: the same with answers, the scores, and what they come to."""
SERVING, SCORINGS = "serving.json", "scorings.json"
REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """An answer in another evaluation's journal."""

    run_id: str
    entry: JournalEntry


class RecordedAnswers:
    """Answers of earlier evaluations by (scoring key, hash of the request, attempt): what is asked
    again differs in its seed alone, which the hash leaves out."""

    def __init__(self, runs_dir: Path, keys: Iterable[str], but_for: str = "") -> None:
        """
        Args:
            keys: the scorings that are wanted.
            but_for: a run that is not looked into.
        """
        wanted = frozenset(keys)
        self._answers: dict[tuple[str, str, int], RecordedAnswer] = {}
        for path in sorted(runs_dir.glob(f"[!.]*/{SCORINGS}")):
            run_dir = path.parent
            if run_dir.name == but_for or wanted.isdisjoint(_keys(path)):
                continue
            for name in (ANSWERS, JOURNAL):
                for entry in read_entries(run_dir / name):
                    key = entry.context.get("scoring")
                    if key in wanted and not _was_too_long(entry):
                        place = (str(key), entry.request_hash, entry.address.attempt)
                        self._answers.setdefault(place, RecordedAnswer(run_dir.name, entry))

    def find(self, key: str, request_hash: str, attempt: int) -> RecordedAnswer | None:
        """The answer to a request under a scoring's key, if an evaluation has it."""
        return self._answers.get((key, request_hash, attempt))


def _was_too_long(entry: JournalEntry) -> bool:
    return isinstance(entry.outcome, Refusal) and entry.outcome.kind == "context_length"


def _keys(path: Path) -> list[str]:
    try:
        value = json.loads(path.read_bytes())
        return [str(scoring["key"]) for scoring in value["scorings"]]
    except (OSError, ValueError, KeyError, TypeError):
        # Another evaluation's broken directory is not this one's to complain about.
        return []
