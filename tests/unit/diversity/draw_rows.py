"""Draws the rows of verb_noun_labels.jsonl and prints each with its split; labels no row.

python tests/unit/diversity/draw_rows.py ../shared/data
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
from pathlib import Path
from random import Random

SEED = 20261124
# What opens as a statement or a fragment does, rather than as a request does.
STATEMENT = (
    r"^(the|an?|this|these|those|that|it|its|there|i|my|we|our|he|she|they|his|her|\d+|[^\w\s])"
    r"(?!\w)(?!.*\?)"
)
SOURCES = {
    "self_instruct/gpt3_generated_instances_5k.jsonl.gz": 120,
    "alpaca/alpaca_data_52002.jsonl.gz": 100,
    "dolly/dolly_sample_500.jsonl.gz": 60,
    "evol_instruct/wizardlm_testset_218.jsonl": 20,
}
TUNE = 0.5
# A third of each source comes from rows that look like one of these, one kind after the other.
HARD = {
    "polite": r"^(can|could|would|will) you\b|^please\b|\bplease\b.*$",
    "need you": r"\b(need|want|would like|'d like) (you )?to\b",
    "context": r"^(given|you are|you're|you have|in this|suppose|imagine|consider|if|for|using)\b",
    "question": r"^(what|how|why|when|where|which|who|whose|is|are|do|does|did)\b",
    "coordinated": r"\b(and|or|then) (then )?(explain|give|write|describe|find|tell|list|make|create|"
    r"provide|identify|suggest|classify|decide|determine|output|return|state|rewrite|replace|print)\b",
    "particle": r"\b(come up|find out|write down|figure out|point out|make up|fill in|fill out|pick out|"
    r"look up|set up|sum up|break down|act out|carry out|list out|put together)\b",
    "passive": r"\b(should|must|can|is to|are to|has to|needs to) be \w+(ed|en|ten|ut|ade)\b",
}


def instructions(path: Path) -> list[tuple[int, str]]:
    """Each distinct instruction with the number of the row where it first stands."""
    lines = (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8")
    seen: dict[str, int] = {}
    with lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            seen.setdefault(row.get("instruction") or row["Instruction"], number)
    return [(number, text) for text, number in seen.items()]


def drawn(random: Random, rows: list[tuple[int, str]], count: int) -> list[tuple[int, str]]:
    hard = count // 3
    chosen = dict(random.sample(rows, count - hard))
    kinds = [
        random.sample(fits, len(fits))
        for fits in ([r for r in rows if re.search(p, r[1], re.IGNORECASE)] for p in HARD.values())
    ]
    statements = [r for r in rows if re.search(STATEMENT, r[1], re.IGNORECASE | re.DOTALL)]
    some = min(len(statements), count // 12)
    chosen.update(Random(SEED).sample(statements, some))
    turn = 0
    while len(chosen) < count:
        if kinds[turn % len(kinds)]:
            number, text = kinds[turn % len(kinds)].pop()
            chosen.setdefault(number, text)
        turn += 1
    return list(chosen.items())


def main(data: Path) -> None:
    random = Random(SEED)
    for file, count in SOURCES.items():
        rows = drawn(random, instructions(data / file), count)
        random.shuffle(rows)
        for place, (number, text) in enumerate(rows):
            sha256 = hashlib.sha256(text.encode()).hexdigest()[:16]
            split = "tune" if place < count * TUNE else "test"
            print(json.dumps({"file": file, "row": number, "sha256": sha256, "split": split}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
