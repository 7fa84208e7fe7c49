"""The hand labels with their texts, and how a rule is scored by them.

python -m tests.unit.diversity.labels ../shared/data [--test]
prints the figures of both rules that docs/DIVERSITY.md holds.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.diversity import VerbNoun, analyse

LABELS = Path(__file__).with_name("verb_noun_labels.jsonl")


@dataclass(frozen=True)
class Label:
    text: str
    kind: str
    verb: str | None
    nouns: tuple[str, ...]
    question_word: str | None


@dataclass(frozen=True)
class Scores:
    """Shares, 0 to 1. Of pairs: correct of those given, correct of those labelled with a noun."""

    pair_precision: float
    pair_recall: float
    verb_precision: float
    verb_recall: float
    question_precision: float
    question_recall: float
    question_word: float
    counts: tuple[str, ...]


@cache
def read_labels(data: Path, split: str) -> list[Label]:
    found = []
    for line in LABELS.read_text(encoding="utf-8").splitlines():
        label = json.loads(line)
        if label["split"] != split:
            continue
        row = _rows(data / label["file"])[label["row"]]
        text = row.get("instruction") or row["Instruction"]
        assert hashlib.sha256(text.encode()).hexdigest()[:16] == label["sha256"]
        nouns = tuple(label["nouns"])
        found.append(Label(text, label["kind"], label["verb"], nouns, label["question_word"]))
    return found


def score(labels: list[Label], records: list[VerbNoun]) -> Scores:
    both = list(zip(labels, records, strict=True))
    pairs = sum(
        record.pair is not None and record.verb == label.verb and record.noun in label.nouns
        for label, record in both
    )
    verbs = sum(record.verb is not None and record.verb == label.verb for label, record in both)
    asked = [(label, record) for label, record in both if label.kind == "question"]
    questions = sum(record.kind == "question" for _, record in asked)
    words = sum(record.question_word == label.question_word for label, record in asked)
    shares = {
        "pair_precision": (pairs, sum(record.pair is not None for record in records)),
        "pair_recall": (pairs, sum(bool(label.nouns) for label in labels)),
        "verb_precision": (verbs, sum(record.verb is not None for record in records)),
        "verb_recall": (verbs, sum(label.verb is not None for label in labels)),
        "question_precision": (questions, sum(r.kind == "question" for r in records)),
        "question_recall": (questions, len(asked)),
        "question_word": (words, len(asked)),
    }
    return Scores(
        **{name: part / whole if whole else 0.0 for name, (part, whole) in shares.items()},
        counts=tuple(f"{name} {part}/{whole}" for name, (part, whole) in shares.items()),
    )


@cache
def _rows(path: Path) -> list[dict]:
    opened = (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8")
    with opened as lines:
        return [json.loads(line) for line in lines]


def main(data: Path, splits: tuple[str, ...]) -> None:
    for split in splits:
        labels = read_labels(data, split)
        for method in ("published", "mended"):
            records = analyse([label.text for label in labels], method)
            print(split, method, *score(labels, records).counts, sep="\n  ")


if __name__ == "__main__":
    main(Path(sys.argv[1]), ("tune", "test") if "--test" in sys.argv else ("tune",))
