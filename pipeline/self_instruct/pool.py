"""The task pool: what novelty is measured against, and what shots are drawn from."""

from __future__ import annotations

import random

from pipeline.novelty import TREE_FROM, NoveltyIndex, warm_up
from pipeline.records import BlockerRow, Position, ShotRecord
from pipeline.self_instruct.plan import SelfInstructPlan
from pipeline.self_instruct.shots import draw_shots


class TaskPool:
    """Seeds, the instructions of earlier runs, and what this run admitted, in that order."""

    def __init__(self, plan: SelfInstructPlan) -> None:
        self._plan = plan
        only = plan.settings.classification_seeds_only
        seeds = [seed for seed in plan.seeds if seed.is_classification or not only]
        self._seed_ids = [seed.id for seed in seeds]
        self._seed_texts = {seed.id: seed.instruction for seed in seeds}
        self._index = NoveltyIndex(
            plan.novelty.threshold,
            at_threshold=plan.novelty.at_threshold,
            tokenizer=plan.novelty.tokenizer,
        )
        if plan.target >= TREE_FROM:
            warm_up()  # now, not in the middle of the run, with requests waiting
        self._index.add([seed.instruction for seed in seeds])
        self._earlier: list[str] = []
        for run in plan.earlier_runs:
            self._index.add([text for _, text in run.instructions])
            self._earlier += [f"{run.run_id} {address}" for address, _ in run.instructions]
        self._admitted: list[str] = []
        self._texts: list[str] = []
        self._place: dict[str, int] = {}
        self._size_after: list[int] = []

    @property
    def untokenized(self) -> int:
        """Texts that have letters but no tokens under the chosen tokenizer: never near anything."""
        return self._index.untokenized

    def admit(self, position: Position, text: str) -> tuple[BlockerRow, float] | None:
        """Take a text into the pool, or say what keeps it out and how near that is."""
        (admission,) = self._index.admit([text])
        if admission.admitted:
            reference = ".".join(map(str, position))
            self._place[reference] = len(self._admitted)
            self._admitted.append(reference)
            self._texts.append(text)
            return None
        assert admission.blocker_entry is not None  # a rejection names its blocker
        assert admission.blocker is not None and admission.score is not None
        return self._blocker(admission.blocker_entry, admission.blocker), admission.score

    def _blocker(self, entry: int, text: str) -> BlockerRow:
        if entry < len(self._seed_ids):
            return BlockerRow("seed", self._seed_ids[entry], text)
        entry -= len(self._seed_ids)
        if entry < len(self._earlier):
            return BlockerRow("run", self._earlier[entry], text)
        return BlockerRow("machine", self._admitted[entry - len(self._earlier)], text)

    def close_position(self) -> None:
        """Note the pool's size after one more generation position was applied."""
        self._size_after.append(len(self._admitted))

    def shots_for(self, g: int) -> list[ShotRecord]:
        """Shots of generation position `g`, from the pool as it stood after position
        g - window was applied; from the seeds alone while g < window."""
        settings = self._plan.settings
        visible = self._size_after[g - self._plan.window] if g >= self._plan.window else 0
        return draw_shots(
            random.Random(f"{self._plan.run_seed}/generate/{g}"),  # noqa: S311 - not secret
            self._seed_ids,
            self._admitted,
            visible,
            shots=settings.shots,
            machine_shots=settings.machine_shots,
        )

    def text_of(self, shot: ShotRecord) -> str:
        """The text of a drawn shot."""
        if shot.source == "seed":
            return self._seed_texts[shot.reference]
        return self._texts[self._place[shot.reference]]
