"""Corpora that are hard for an index, and the ways of judging them that have to agree."""

from __future__ import annotations

from random import Random

from pipeline.novelty.buckets import BucketEngine
from pipeline.novelty.engine import Engine, Verdict
from pipeline.novelty.plain import PlainEngine
from pipeline.novelty.rouge import AtThreshold, Rule
from pipeline.novelty.tokenizers import resolve_tokenizer
from pipeline.novelty.tree import SPLIT, TreeEngine

ROUGE = resolve_tokenizer("rouge")
# Such a tree is never given up for a scan of the pool, which would hide its faults.
NEVER_SCAN = 10**6


def adversarial(seed: int, size: int = 120) -> tuple[Rule, list[str]]:
    """A rule and a corpus drawn from it: few words, many repeats, near-copies and exact ties."""
    random = Random(seed)
    threshold = random.choice([0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.7, 0.7, 0.8, 0.9, 1.0])
    at_threshold: AtThreshold = random.choice(["reject", "admit"])
    words = [f"w{i}" for i in range(random.choice([2, 3, 5, 12, 40, 120, 300]))]
    weights = [1 / (i + 1) ** random.choice([0, 1]) for i in range(len(words))]
    longest = random.choice([4, 10, 20, 45, 90])
    texts: list[str] = []
    for _ in range(size):
        if texts and random.random() < 0.4:
            tokens = random.choice(texts).split()
            for _ in range(int(len(tokens) * random.choice([0.1, 0.2, 0.3, 0.4]))):
                tokens[random.randrange(len(tokens))] = random.choice(words)
            del tokens[random.randint(0, len(tokens)) :][: random.randint(0, 3)]
        else:
            tokens = random.choices(words, weights, k=random.randint(0, longest))
        texts.append(" ".join(tokens))
    return Rule(threshold, at_threshold), texts


def judged(engine: Engine, texts: list[str], batch: int = 37) -> list[Verdict]:
    """The verdicts of a stream, given in batches."""
    verdicts = []
    for start in range(0, len(texts), batch):
        verdicts += engine.admit(texts[start : start + batch])
        engine.maintain()
    return verdicts


def trees(rule: Rule) -> dict[str, TreeEngine]:
    """Trees with the split sizes at which a fault shows, and as they are used."""
    return {
        "split 2": TreeEngine(rule, ROUGE, split=2, patience=NEVER_SCAN),
        "split 3": TreeEngine(rule, ROUGE, split=3, patience=NEVER_SCAN),
        "split default": TreeEngine(rule, ROUGE, split=SPLIT, patience=NEVER_SCAN),
        "default": TreeEngine(rule, ROUGE),
    }


def disagreements(seed: int) -> list[str]:
    """What differs on one adversarial corpus between the published filter and the others."""
    rule, texts = adversarial(seed)
    expected = judged(PlainEngine(rule, ROUGE), texts)
    engines: dict[str, Engine] = {"fallback": BucketEngine(rule, ROUGE), **trees(rule)}
    found = []
    for name, engine in engines.items():
        for i, pair in enumerate(zip(judged(engine, texts), expected, strict=True)):
            if pair[0] != pair[1]:
                found.append(f"seed {seed}, {name}, text {i}: {pair[0]} instead of {pair[1]}")
                break
    return found
