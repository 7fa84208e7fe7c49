"""What novelty of breadth children is measured against: the source, earlier runs, and the breadth
children that were admitted before them in position order."""

from __future__ import annotations

from pipeline.evol_instruct.plan import EvolPlan
from pipeline.novelty import TREE_FROM, NoveltyIndex, warm_up
from pipeline.records import BlockerRow


class BreadthPool:
    """The novelty index of an evolution.

    A source instruction that has an input blocks twice, with it and without it: a child can copy
    either.
    """

    def __init__(self, plan: EvolPlan) -> None:
        novelty = plan.novelty
        self._index = NoveltyIndex(
            novelty.threshold, at_threshold=novelty.at_threshold, tokenizer=novelty.tokenizer
        )
        # For each entry: the blocker's source and reference.
        self._places: list[tuple[str, str]] = []
        texts = []
        for number, item in enumerate(plan.source):
            instruction = item.instruction.strip()
            for text in dict.fromkeys((instruction, item.text)):
                texts.append(text)
                self._places.append(("source", str(number)))
        for run in plan.earlier_runs:
            texts += [text for _, text in run.instructions]
            self._places += [("run", f"{run.run_id} {place}") for place, _ in run.instructions]
        if len(texts) >= TREE_FROM:
            warm_up()  # now, not in the middle of the run, with requests waiting
        self._index.add(texts)

    @property
    def untokenized(self) -> int:
        """Texts that have letters but no tokens under the chosen tokenizer."""
        return self._index.untokenized

    def admit(self, position: int, text: str) -> tuple[BlockerRow, float] | None:
        """Take a child into the pool, or say what keeps it out and how near that is."""
        (admission,) = self._index.admit([text])
        if admission.admitted:
            self._places.append(("machine", str(position)))
            return None
        assert admission.blocker_entry is not None  # a rejection names its blocker
        assert admission.blocker is not None and admission.score is not None
        source, reference = self._places[admission.blocker_entry]
        if source == "source":
            return BlockerRow("source", reference, admission.blocker), admission.score
        if source == "run":
            return BlockerRow("run", reference, admission.blocker), admission.score
        return BlockerRow("machine", reference, admission.blocker), admission.score
