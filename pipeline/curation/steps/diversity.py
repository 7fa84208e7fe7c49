"""Diversity by embeddings: what is too near in meaning to what is kept already goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from pipeline.curation.context import Context
from pipeline.curation.records import Candidate, Outcome, Reject
from pipeline.curation.step import Step
from pipeline.diversity.embeddings import MODEL, check_embeddings, embed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 512


class DiversityStep(Step):
    """DEITA's filter (arXiv 2312.15685, section 3.3; METHODS.md d.7) with sentence embeddings.

    Candidates are walked in order; one stays iff its largest cosine similarity to those that stayed
    is at most `max_cosine`. The paper embeds with the last hidden state of LLaMA-1-13B; here it is
    all-MiniLM-L6-v2, which reads 256 tokens.
    """

    step: ClassVar[str] = "diversity"

    max_cosine: float = Field(default=0.9, gt=0.0, le=1.0)
    """Largest cosine similarity to a kept one (published: 0.9)."""
    of: Literal["instruction", "prompt", "instance"] = "prompt"
    """The text that is embedded: the instruction, instruction and input, or these and the output."""
    by: str | None = None
    """The score by which candidates are walked, the highest first, such as `quality`; unset: their
    order."""
    count: PositiveInt | None = None
    """Stop when that many are kept; unset: walk to the end."""

    def needs(self) -> tuple[str, ...]:
        """The score, if one is named."""
        return (self.by,) if self.by else ()

    def check(self, context: Context) -> None:
        """Check that the model is installed."""
        check_embeddings()

    def apply(self, candidates: Sequence[Candidate], context: Context) -> Outcome:
        """Keep what is far from what is kept; score and evidence are of the nearest kept one."""
        order: Sequence[Candidate] = candidates
        if self.by is not None:
            by = self.by
            order = sorted(candidates, key=lambda item: (-item.scores[by], item.number))
        vectors = embed([self._text(item) for item in order], context.on_progress)
        rejects: dict[int, Reject] = {}
        kept = 0
        for place, (nearest, cosine) in enumerate(walk(vectors, self.max_cosine)):
            item = order[place]
            if nearest is not None:
                text = self._text(order[nearest])
                rejects[item.number] = Reject(item, "too_near", cosine, text)
            elif self.count is not None and kept >= self.count:
                rejects[item.number] = Reject(item, "beyond_count")
            else:
                kept += 1
        return Outcome(
            [item for item in candidates if item.number not in rejects],
            [rejects[item.number] for item in candidates if item.number in rejects],
            {"model": MODEL},
        )

    def _text(self, item: Candidate) -> str:
        if self.of == "instruction":
            return item.instruction
        return item.prompt if self.of == "prompt" else f"{item.prompt}\n{item.output}"


def walk(
    vectors: NDArray[np.float64], max_cosine: float
) -> Iterator[tuple[int | None, float | None]]:
    """For each unit vector in order: the number of the nearest kept one and their cosine where it is
    too near, else (None, None), and it is kept.

    Vectors are compared block by block: one matrix product with all that are kept, and one within
    the block.
    """
    import numpy as np

    kept = np.empty(vectors.shape, vectors.dtype)
    numbers: list[int] = []
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        before = len(numbers)
        with_kept = block @ kept[:before].T
        within = block @ block.T
        new: list[int] = []  # places in the block
        for place in range(len(block)):
            best, nearest = -2.0, -1
            if before:
                column = int(with_kept[place].argmax())
                best, nearest = float(with_kept[place, column]), numbers[column]
            if new:
                column = int(within[place, new].argmax())
                if within[place, new[column]] > best:
                    best, nearest = float(within[place, new[column]]), start + new[column]
            if best > max_cosine:
                yield nearest, round(best, 6)
            else:
                new.append(place)
                yield None, None
        kept[before : before + len(new)] = block[new]
        numbers += [start + place for place in new]
