"""Whether the student was trained on what it is evaluated with.

The rules are decontamination's (`pipeline.curation.overlap`): 13 words in a row shared with an item
(GPT-3, appendix C), or more than half of an item's words in runs of 8 that one training example has
(Tülu 3, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.curation.evaluation_files import EvaluationFile as TextFile
from pipeline.curation.evaluation_files import EvaluationItem as TextItem
from pipeline.curation.overlap import EvaluationIndex
from pipeline.student.evaluation.records import EvaluationFile, EvaluationItem
from pipeline.student.records import Example

NGRAM, OVERLAP_NGRAM, OVERLAP = 13, 8, 0.5


@dataclass(frozen=True, slots=True)
class Contaminated:
    """An item that a training example holds: by which rule, how much of it, and what was seen."""

    file: int
    number: int
    rule: str
    share: float
    evidence: str
    example: str
    """The training instance that has the largest share of it."""


def find_contaminated(
    examples: Iterable[Example],
    files: Sequence[EvaluationFile],
    items: Sequence[EvaluationItem],
) -> list[Contaminated]:
    """The items that were asked and that a training example holds, in order."""
    texts = [
        TextFile(
            file.name,
            file.sha256,
            tuple(_as_text(item) for item in items if item.file == file.number),
        )
        for file in files
    ]
    index = EvaluationIndex(texts, NGRAM, OVERLAP_NGRAM, OVERLAP)
    found: dict[tuple[int, int], Contaminated] = {}
    for example in examples:
        for match in index.find(_texts(example), _prompts(example)):
            key = (files[match.file].number, match.item.number)
            if key not in found or match.share > found[key].share:
                found[key] = Contaminated(
                    *key, match.rule, match.share, match.evidence, example.instance_id
                )
    return [found[key] for key in sorted(found)]


def contamination_report(
    files: Sequence[EvaluationFile],
    items: Sequence[EvaluationItem],
    found: Sequence[Contaminated],
) -> dict[str, Any]:
    """What the manifest keeps: counts by file, and the items."""
    return {
        "rules": {"ngram": NGRAM, "overlap_ngram": OVERLAP_NGRAM, "overlap": OVERLAP},
        "files": [
            {
                "file": file.number,
                "items": sum(item.file == file.number for item in items),
                "contaminated": sum(one.file == file.number for one in found),
            }
            for file in files
        ],
        "items": [asdict(one) for one in found],
    }


def contaminated_items(report: Mapping[str, Any]) -> frozenset[tuple[int, int]]:
    """The items that a report names, as (file, number)."""
    return frozenset((int(one["file"]), int(one["number"])) for one in report["items"])


def _as_text(item: EvaluationItem) -> TextItem:
    prompt = f"{item.instruction}\n{item.input}" if item.input else item.instruction
    return TextItem(item.number, item.name, prompt, item.references)


def _texts(example: Example) -> list[str]:
    turns = [text for turn in example.turns for text in turn]
    return [*([example.system] if example.system else []), *_prompts(example)[:1], example.output,
            *turns]  # fmt: skip


def _prompts(example: Example) -> list[str]:
    whole = f"{example.instruction}\n{example.input}" if example.input else example.instruction
    parts = [example.instruction] if example.input else []
    return [whole, *parts, *(user for user, _ in example.turns)]
