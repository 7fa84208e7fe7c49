"""How varied a set of texts is, in numbers. Each measure is a pure function.

Words are those of `words_of`. Samples are drawn with a fixed seed, so that the same texts in the same
order always give the same number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from math import exp, log, log2
from random import Random

from pipeline.diversity.languages import language_of
from pipeline.diversity.records import VerbNoun
from pipeline.diversity.scripts import main_script
from pipeline.diversity.words import words_of

_SEED = "diversity"
# Of NLTK's smoothing `method1`: what a precision of nothing in common counts as.
_EPSILON = 0.1


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Distinct n-grams, per word of all texts: 0 to 1, higher is more varied.

    An n-gram lies within one text. The ratio falls with the amount of text: compare sets of one
    size, or use `moving_average_ttr`.

    Raises:
        ValueError: n is below 1.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation
    Models" (distinct-1 and distinct-2, scaled by the number of words).
    """
    if n < 1:
        raise ValueError(f"n is {n}: at least 1 is needed")
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in texts:
        words = words_of(text)
        total += len(words)
        seen.update(_n_grams(words, n))
    return len(seen) / total if total else 0.0


def type_token_ratio(texts: Iterable[str]) -> float:
    """Distinct words per word of all texts taken together: 0 to 1, falling with their amount.

    Source: Templin 1957, "Certain Language Skills in Children". The same number as distinct-1.
    """
    return distinct_n(texts, 1)


def moving_average_ttr(texts: Iterable[str], window: int = 500) -> float:
    """Mean type-token ratio of all runs of `window` words: 0 to 1, whatever the amount of text.

    The texts are read one after the other as one; with fewer words than a window has it is their
    type-token ratio.

    Raises:
        ValueError: the window is below 1 word.

    Source: Covington and McFall 2010, "Cutting the Gordian Knot: The Moving-Average Type-Token
    Ratio (MATTR)".
    """
    if window < 1:
        raise ValueError(f"window is {window} words: at least 1 is needed")
    inside: deque[str] = deque()
    counts: Counter[str] = Counter()
    types = windows = 0
    for text in texts:
        for word in words_of(text):
            inside.append(word)
            counts[word] += 1
            if len(inside) > window:
                left = inside.popleft()
                counts[left] -= 1
                if not counts[left]:
                    del counts[left]
            if len(inside) == window:
                types += len(counts)
                windows += 1
    if windows:
        return types / windows / window
    return len(counts) / len(inside) if inside else 0.0


def entropy(items: Iterable[str]) -> float:
    """Shannon entropy of how often each item occurs, in bits: 0 if all are alike or there is none.

    Of the verbs of a dataset it is the verb entropy: 2 to its power is the number of verbs that,
    used alike, would be as varied.

    Source: Shannon 1948, "A Mathematical Theory of Communication".
    """
    counts = Counter(items).values()
    total = sum(counts)
    return -sum(count / total * log2(count / total) for count in counts) + 0.0 if counts else 0.0


def normalised_entropy(items: Iterable[str]) -> float:
    """Entropy over its greatest value for so many distinct items: 0 to 1; 1 is evenly spread.

    Source: Pielou 1966, "The Measurement of Diversity in Different Types of Biological
    Collections" (evenness).
    """
    items = list(items)
    distinct = len(set(items))
    return min(1.0, entropy(items) / log2(distinct)) if distinct > 1 else 0.0


def self_bleu(texts: Sequence[str], n: int = 4, sample: int = 1000) -> float:
    """Mean BLEU of each text against all others: 0 to 1, higher is *less* varied.

    BLEU has uniform weights up to n-grams of length `n`, the brevity penalty of the closest length,
    and NLTK's smoothing `method1`. Of more than `sample` texts a sample with a fixed seed is taken.
    The numbers are exact: an n-gram's most frequent text and the second suffice, so that no two
    texts are compared, and the time is that of reading them.

    Raises:
        ValueError: n or the sample is below 1.

    Source: Zhu et al. 2018, "Texygen: A Benchmarking Platform for Text Generation Models"; BLEU by
    Papineni et al. 2002.
    """
    if n < 1 or sample < 1:
        raise ValueError(f"n is {n} and sample {sample}: at least 1 is needed of each")
    texts = draw(texts, sample)
    tokens = [words_of(text) for text in texts]
    if len(tokens) < 2:
        return 0.0
    lengths = sorted(map(len, tokens))
    logs = [0.0] * len(tokens)
    nothing: set[int] = set()
    for order in range(1, n + 1):
        grams = [Counter(_n_grams(words, order)) for words in tokens]
        most = _two_most(grams)
        for i, counts in enumerate(grams):
            clipped = sum(min(c, _most_elsewhere(most[g], i)) for g, c in counts.items())
            if order == 1 and not clipped:
                nothing.add(i)
            logs[i] += log((clipped or _EPSILON) / max(1, len(tokens[i]) - order + 1)) / n
    scores = (
        0.0 if i in nothing else _brevity(len(words), lengths) * exp(logs[i])
        for i, words in enumerate(tokens)
    )
    return sum(scores) / len(tokens)


def draw(texts: Sequence[str], size: int) -> Sequence[str]:
    """Of more than `size` texts that many, always the same ones."""
    if len(texts) <= size:
        return texts
    return Random(f"{_SEED}/{size}").sample(texts, size)  # noqa: S311


def kind_shares(records: Sequence[VerbNoun]) -> dict[str, float]:
    """Shares of `imperative`, `question` and `unparsed` instructions: each 0 to 1, together 1."""
    return _shares((record.kind for record in records), ("imperative", "question", "unparsed"))


def task_type_shares(is_classification: Sequence[bool | None]) -> dict[str, float]:
    """Shares of `classification`, `other` and `unknown` tasks: each 0 to 1, together 1."""
    names = {True: "classification", False: "other", None: "unknown"}
    return _shares((names[known] for known in is_classification), tuple(names.values()))


def script_shares(texts: Sequence[str]) -> dict[str, float]:
    """Share of texts by the script most of their letters are of; `none` of those without letters.

    Each 0 to 1, together 1, the largest first. Names are Unicode's (`Latin`, `Han`, ...; UAX #24),
    with `Other` for the rare ones. It tells English from Chinese, not English from French.
    """
    shares = _shares((main_script(text) or "none" for text in texts), ())
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def language_shares(texts: Sequence[str], records: Sequence[VerbNoun]) -> dict[str, float]:
    """Share of texts by language (ISO 639-1, or `unknown`): each 0 to 1, together 1, the largest
    first.

    Source: Grefenstette 1995, "Comparing two language identification schemes" (small words).
    """
    shares = _shares(
        (
            language_of(text, reads_as_english=record.kind != "unparsed")
            for text, record in zip(texts, records, strict=True)
        ),
        (),
    )
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def _shares(values: Iterable[str], names: tuple[str, ...]) -> dict[str, float]:
    counts = Counter(values)
    total = counts.total()
    return {
        name: counts[name] / total if total else 0.0 for name in dict.fromkeys([*names, *counts])
    }


def _n_grams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)


def _two_most(
    grams: Sequence[Counter[tuple[str, ...]]],
) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """Of each n-gram: the most it occurs in one text, that text, and the most in any other."""
    most: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for i, counts in enumerate(grams):
        for gram, count in counts.items():
            first, owner, second = most.get(gram, (0, -1, 0))
            if count > first:
                most[gram] = (count, i, first)
            elif count > second:
                most[gram] = (first, owner, count)
    return most


def _most_elsewhere(most: tuple[int, int, int], i: int) -> int:
    first, owner, second = most
    return second if owner == i else first


def _brevity(length: int, lengths: Sequence[int]) -> float:
    """BLEU's penalty of a text shorter than the reference closest in length; of two the shorter."""
    at = bisect_left(lengths, length)
    if lengths[at + 1 : at + 2] == [length]:
        return 1.0
    others = [*lengths[max(0, at - 1) : at], *lengths[at + 1 : at + 2]]
    closest = min(others, key=lambda other: (abs(other - length), other))
    return 1.0 if length > closest else (exp(1 - closest / length) if length else 0.0)
