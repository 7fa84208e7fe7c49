"""What a step may need beside its candidates and its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.curation.records import Candidate

if TYPE_CHECKING:
    from pipeline.curation.judging import Judgement, JudgePlan


class Judge(Protocol):
    """Asks a teacher about candidates; every answer is kept, so that none is paid for twice."""

    def check(self, plan: JudgePlan) -> None:
        """Check, before any work, that the teacher could be asked.

        Raises:
            UsageError: prompts or settings are not usable.
        """
        ...

    def ask(self, plan: JudgePlan, candidates: Sequence[Candidate]) -> Mapping[int, Judgement]:
        """Judgements by the candidates' numbers; one that cannot be had is left out.

        Raises:
            EvoloomError: the teacher cannot be asked; what was answered is kept.
        """
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """Where a recipe is run.

    `seed` is the recipe's, for random draws; `folder` is what relative paths of its parameters
    start from; `cache_dir` is where the bundled model is unpacked; `judge` asks the teacher.
    """

    seed: int = 0
    folder: Path = field(default_factory=Path)
    cache_dir: Path | None = None
    judge: Judge | None = None
    on_progress: Callable[[int, int], None] = lambda done, of: None
    """Told how many candidates a long step has done, of how many."""
