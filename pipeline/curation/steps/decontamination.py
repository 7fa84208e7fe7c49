"""Decontamination: what holds texts of evaluation files goes, so that scores can be believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from pipeline.curation.context import Context
from pipeline.curation.evaluation_files import EvaluationFile, bundled_files, read_file
from pipeline.curation.overlap import EvaluationIndex, Match
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step

_REPORT_EVERY = 2000
_RULES = ("shared_ngram", "overlap", "whole_prompt")


class DecontaminationStep(Step):
    """Against the evaluation tasks that come with evoloom, always, and files of your own.

    Two published rules (METHODS.md d.8): an instance goes if it shares 13 words in a row with an
    item (GPT-3, appendix C; lm-eval), or if more than half of the words of an item's prompt lie in
    8 words in a row that it shares (Tülu 3, section 3.2). Every text of the instance is looked at:
    prompt, answer, system message, further turns.
    """

    step: ClassVar[str] = "decontamination"

    files: tuple[Path, ...] = ()
    """Evaluation files beside the bundled ones, from the recipe's folder: JSON Lines, a JSON array or
    plain text with an item a line."""
    ngram: int = Field(default=13, ge=5)
    """Words in a row, shared with an item, that reject an instance."""
    overlap_ngram: int = Field(default=8, ge=3)
    """Words in a row that count as overlap."""
    overlap: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Share of a prompt's words in overlap beyond which an instance is rejected."""

    def check(self, context: Context) -> None:
        """Check that the files can be read."""
        self._files(context)

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep what holds no item; the score is the share of the item's words, the evidence says
        which item and what is shared."""
        files = self._files(context)
        index = EvaluationIndex(files, self.ngram, self.overlap_ngram, self.overlap)
        counts = [_Counts() for _ in files]
        kept, rejected = [], []
        for done, item in enumerate(candidates, 1):
            prompts = [item.prompt, *(user for user, _ in item.turns)]
            prompts += [item.instruction] if item.input else []
            matches = index.find(item.texts(), prompts)
            if matches:
                for number in {match.file for match in matches}:
                    counts[number].add([match for match in matches if match.file == number])
                worst = max(matches, key=lambda match: match.share)
                evidence = f"{files[worst.file].name} item {worst.item.name}: {worst.evidence}"
                rejected.append(Reject(item, worst.rule, worst.share, evidence))
            else:
                kept.append(item)
            if done % _REPORT_EVERY == 0:
                context.on_progress(done, len(candidates))
        reports = [count.report(file) for count, file in zip(counts, files, strict=True)]
        return Outcome(kept, rejected, {"files": reports})

    def _files(self, context: Context) -> tuple[EvaluationFile, ...]:
        return (*bundled_files(), *(read_file(context.folder / path) for path in self.files))


class _Counts:
    """What was found of one evaluation file."""

    def __init__(self) -> None:
        self._instances = 0
        self._items: set[int] = set()
        self._rules: Counter[str] = Counter()

    def add(self, matches: Sequence[Match]) -> None:
        self._instances += 1
        self._items.update(match.item.number for match in matches)
        self._rules[max(matches, key=lambda match: match.share).rule] += 1

    def report(self, file: EvaluationFile) -> dict[str, Any]:
        of = len(file.items)
        return {
            "file": file.name,
            "sha256": file.sha256,
            "items": of,
            "items_found": len(self._items),
            "share_found": round(len(self._items) / of, 4) if of else 0.0,
            "rejected": self._instances,
            **{rule: self._rules[rule] for rule in _RULES},
        }
