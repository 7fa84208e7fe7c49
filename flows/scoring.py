"""How near each accepted instruction of a run is to its seeds and to the rest of its pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.analysis import SCORES

if TYPE_CHECKING:
    import polars as pl

    from pipeline.novelty import NoveltyIndex
    from store.run_directory import Manifest


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one instruction: the best ROUGE-L with a seed and with another of the pool, and which."""

    instruction_id: str
    seed: tuple[float, str] | None
    pool: tuple[float, str] | None


class Neighbours:
    """The seeds and the accepted instructions of a run, to look for the nearest in."""

    def __init__(self, manifest: Manifest, ids: Sequence[str], texts: Sequence[str]) -> None:
        """
        Args:
            ids: of the accepted instructions, in admission order: of equally near ones the first
                is the nearest.
        """
        self._ids = ids
        self._texts = texts
        self._seed_ids = [seed.id for seed in manifest.seeds]
        self._pool = _index(manifest, texts)
        tokenizer = self._pool.tokenizer.name
        self._seeds = _index(manifest, [seed.instruction for seed in manifest.seeds], tokenizer)

    def score(self, places: Sequence[int]) -> list[Scores]:
        """The scores of the instructions with these numbers."""
        texts = [self._texts[place] for place in places]
        nearest_seeds = self._seeds.nearest(texts, 1)
        nearest = self._pool.nearest(texts, 2)  # one of them may be the text itself
        found = []
        for place, seeds, others in zip(places, nearest_seeds, nearest, strict=True):
            other = next((o for o in others if o.entry != place), None)
            found.append(
                Scores(
                    self._ids[place],
                    (seeds[0].score, self._seed_ids[seeds[0].entry]) if seeds else None,
                    (other.score, self._ids[other.entry]) if other else None,
                )
            )
        return found


def _index(manifest: Manifest, texts: Sequence[str], tokenizer: str | None = None) -> NoveltyIndex:
    """The texts, compared as the run compared them.

    A run without such a setting (an import, a dataset version) is compared as the paper has it,
    unless most of its texts have no tokens then: they are in other scripts.
    """
    from pipeline.novelty import NoveltyIndex

    chosen = tokenizer or manifest.raw.get("config", {}).get("novelty", {}).get("tokenizer")
    index = NoveltyIndex(tokenizer=chosen or "rouge")
    index.add(texts)
    if chosen is None and 2 * index.untokenized > len(texts):
        index = NoveltyIndex(tokenizer="multilingual")
        index.add(texts)
    return index


def scores_frame(run_id: str, scores: Sequence[Scores], pool_size: int) -> pl.DataFrame:
    """Scores as `store.analysis.write_scores` takes them."""
    import polars as pl

    rows = [
        (item.instruction_id, run_id, *(item.seed or (None, None)), *(item.pool or (None, None)),
         pool_size)
        for item in scores
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCORES, orient="row")
