"""Speed of the novelty index: `python -m benchmarks.novelty [--quick]`.

One run, one table, JSON beside it (benchmarks/results/novelty.json). Reads ../shared/data. Every
figure is of this one run on this machine, so that the ratios hold where the seconds do not.
`--quick` leaves out the million, extrapolates more and says so.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist
from rouge_score.rouge_scorer import RougeScorer

from pipeline.novelty import NoveltyIndex, warm_up

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"
FILES = (
    "self_instruct/gpt3_generated_instances_5k.jsonl.gz",
    "alpaca/alpaca_data_52002.jsonl.gz",
    "dolly/dolly_alpagasus_filtered_2996.jsonl.gz",
)
STREAM = 66_000


def real_stream() -> list[str]:
    """About 60,000 real instructions in a drawn order, and near-copies mixed into the later half."""
    texts = []
    for name in FILES:
        with gzip.open(DATA / name, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["instruction"] for line in lines]
    random = Random(7)
    random.shuffle(texts)
    words = " ".join(texts[:3000]).split()
    copies = []
    for _ in range(STREAM - len(texts)):
        share = random.uniform(0.05, 0.35)
        tokens = random.choice(texts).split()
        copies.append(" ".join(random.choice(words) if random.random() < share else t
                               for t in tokens))  # fmt: skip
    tail = texts[len(texts) // 2 :] + copies
    random.shuffle(tail)
    return texts[: len(texts) // 2] + tail


def synthetic(count: int, seed: int = 11) -> list[str]:
    """Texts with the lengths of instructions and words as frequent as in language.

    Words follow Zipf and Mandelbrot: of 50,000 the one of rank r has a weight of 1 / (r + 2.7), so
    that the commonest is one word in forty, as in the real instructions.
    """
    draw = np.random.default_rng(seed)
    lengths = np.clip(np.round(draw.lognormal(2.3, 0.45, count)), 3, 60).astype(int)
    weights = np.cumsum(1 / (np.arange(1, 50_001) + 2.7))
    ranks = np.searchsorted(weights / weights[-1], draw.random(int(lengths.sum())))
    words = [f"w{rank}" for rank in ranks.tolist()]
    ends = np.cumsum(lengths).tolist()
    return [" ".join(words[end - n : end]) for end, n in zip(ends, lengths.tolist(), strict=True)]


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall seconds, this process's CPU seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def library(texts: Sequence[str], admitted_before: Sequence[int]) -> float:
    """Seconds rouge_score would need for the stream: 2,000 drawn comparisons, extrapolated.

    As the published program does, a text is compared with the whole pool of its time.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    random = Random(3)
    pairs = [(random.choice(texts), random.choice(texts)) for _ in range(2000)]
    _, cpu, _ = timed(lambda: [scorer.score(a, b) for a, b in pairs])
    return cpu / len(pairs) * sum(admitted_before)


def distances(texts: Sequence[str], pool: Sequence[str], comparisons: int, *, coded: bool) -> float:
    """Seconds rapidfuzz's cdist would need: a sample of texts against the pool, extrapolated.

    Args:
        coded: give it one character a token, the form in which rapidfuzz is fastest, instead of
            lists of tokens.
    """
    numbers: dict[str, int] = {}

    def form(text: str) -> str | list[str]:
        tokens = text.lower().split()
        if not coded:
            return tokens
        return "".join(chr(numbers.setdefault(t, len(numbers) + 1)) for t in tokens)

    sample = [form(text) for text in Random(5).sample(list(texts), 60)]
    against = [form(text) for text in pool]
    scorer = LCSseq.normalized_similarity
    _, cpu, _ = timed(lambda: cdist(sample, against, scorer=scorer, workers=1))
    return cpu / (len(sample) * len(against)) * comparisons


def minhash(texts: Sequence[str], decisions: Sequence[bool], limit: int) -> dict[str, Any]:
    """MinHashLSH on word sets with 128 permutations, and how often it decides otherwise."""
    from datasketch import MinHash, MinHashLSH

    from pipeline.novelty import rouge_tokens

    lsh = MinHashLSH(threshold=0.54, num_perm=128)  # Jaccard 0.54 is a word overlap of 0.7
    wrong = 0

    def work() -> None:
        nonlocal wrong
        for i, text in enumerate(texts[:limit]):
            signature = MinHash(num_perm=128)
            signature.update_batch([token.encode() for token in rouge_tokens(text)])
            novel = not lsh.query(signature)
            wrong += novel != decisions[i]
            if novel:
                lsh.insert(str(i), signature)

    _, cpu, _ = timed(work)
    return {"seconds": cpu * len(texts) / limit, "texts_run": limit,
            "wrong_decisions_per_1000": 1000 * wrong / limit}  # fmt: skip


def neighbours(pool: Sequence[str]) -> float:
    """Seconds to find the nearest other text of each in the pool: 1,000 of them, extrapolated."""
    index = NoveltyIndex(implementation="tree")
    index.add(pool)
    sample = Random(9).sample(list(pool), 1000)
    _, cpu, _ = timed(lambda: index.nearest(sample, 2))
    return cpu / len(sample) * len(pool)


def growth(sizes: Sequence[int]) -> dict[str, Any]:
    """The tree at several sizes: seconds, the fitted exponent, memory and single checks."""
    rows = []
    for size in sizes:
        texts = synthetic(size)
        index: NoveltyIndex | None = NoveltyIndex(implementation="tree")
        wall, cpu, admissions = timed(partial(index.admit, texts))
        # The engine's bytes are for this page alone, so that the index does not offer them.
        row: dict[str, Any] = {"texts": size, "seconds": wall, "cpu_seconds": cpu,
                               "admitted": sum(a.admitted for a in admissions),
                               "index_bytes": index._engine.memory()}  # type: ignore[attr-defined]  # fmt: skip
        del admissions
        checks = []
        for text in synthetic(3000, seed=12):
            start = time.perf_counter()
            index.check(text)
            checks.append(time.perf_counter() - start)
        row["check_p50_us"], row["check_p99_us"] = (
            1e6 * float(np.percentile(checks, p)) for p in (50, 99)
        )
        path = HERE / "results" / "pool.tmp"
        index.save(path)
        index = None  # its memory goes before another is made
        row["ready_again_seconds"], _, again = timed(
            partial(NoveltyIndex.load, path, implementation="tree")
        )
        assert len(again) == row["admitted"]
        del again
        path.unlink()
        rows.append(row)
        print(json.dumps(row), flush=True)
    slope = np.polyfit([math.log(r["texts"]) for r in rows],
                       [math.log(r["cpu_seconds"]) for r in rows], 1)[0]  # fmt: skip
    return {"sizes": rows, "exponent": float(slope)}


def main() -> None:
    quick = "--quick" in sys.argv
    results: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "quick": quick,
    }
    results["first_call_seconds"] = timed(warm_up)[0]
    texts = real_stream()
    runs: dict[str, Any] = {}
    admissions = []
    for threshold in (0.5, 0.9, 0.7):
        index = NoveltyIndex(threshold, implementation="tree")
        wall, cpu, admissions = timed(partial(index.admit, texts))
        runs[f"tree at {threshold}"] = {"seconds": wall, "cpu_seconds": cpu,
                                        "admitted": sum(a.admitted for a in admissions)}  # fmt: skip
    decisions = [a.admitted for a in admissions]
    before = np.concatenate([[0], np.cumsum(decisions)[:-1]]).tolist()
    part = 20_000 if quick else len(texts)
    fallback = NoveltyIndex(implementation="fallback")
    wall, cpu, found = timed(lambda: fallback.admit(texts[:part]))
    assert found == admissions[:part], "fallback and tree differ"
    runs["fallback"] = {"seconds": wall, "cpu_seconds": cpu, "texts_run": part}
    pool = [text for text, admitted in zip(texts, decisions, strict=True) if admitted]
    runs["rouge_score (extrapolated)"] = {"cpu_seconds": library(texts, before)}
    for coded, form in ((False, "lists of tokens"), (True, "a character a token")):
        seconds = distances(texts, pool, sum(before), coded=coded)
        runs[f"cdist, {form} (extrapolated)"] = {"cpu_seconds": seconds}
    runs["nearest, k=2 (extrapolated)"] = {"cpu_seconds": neighbours(pool)}
    runs["MinHashLSH"] = minhash(texts, decisions, 3000 if quick else 20_000)
    own = runs["tree at 0.7"]["cpu_seconds"]
    results["stream"] = {
        "texts": len(texts),
        "runs": runs,
        "times_rouge_score": runs["rouge_score (extrapolated)"]["cpu_seconds"] / own,
        "times_cdist": runs["cdist, lists of tokens (extrapolated)"]["cpu_seconds"] / own,
        "times_cdist_coded": runs["cdist, a character a token (extrapolated)"]["cpu_seconds"] / own,
    }
    print(json.dumps(results, indent=1), flush=True)
    results["growth"] = growth([52_000, 200_000] if quick else [52_000, 200_000, 1_000_000])
    results["load_at_end"] = os.getloadavg()[0]
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "novelty.json").write_text(json.dumps(results, indent=1) + "\n")
    for name, row in runs.items():
        print(f"{name:44} {row.get('cpu_seconds', row.get('seconds')):14.2f} s CPU")
    print(f"{results['stream']['times_rouge_score']:.0f} times rouge_score, "
          f"{results['stream']['times_cdist']:.0f} times cdist of token lists "
          f"({results['stream']['times_cdist_coded']:.0f} of coded ones), "
          f"exponent {results['growth']['exponent']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
