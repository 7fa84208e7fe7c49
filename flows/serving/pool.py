"""The pool of submitted seed tasks: what is a near copy of another is refused, exactly.

The pool is the service's database; the novelty index over its instructions lives in this process and
is made from it at the start. Whether a text is new is decided as in a run (`novelty.threshold`,
`novelty.at_threshold`, `novelty.tokenizer`); the same text twice is refused whatever they say.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex

from pipeline.novelty import TREE_FROM, NoveltyIndex, warm_up
from pipeline.records import SeedTask
from pipeline.sections import NoveltySettings
from store.service.database import ServiceDatabase
from store.service.idempotency import Answer, Identity, find_answer, remember
from store.service.seed_tasks import (
    PoolTask,
    active_texts,
    insert_tasks,
    known_ids,
    retract_task,
)

_MOST_GARBAGE = 5000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a submitted task cannot come into the pool.

    `code` is `seed_task_id_taken`, `duplicate` (the same text) or `near_duplicate`. The nearest task
    may be an earlier one of the same request; its score is a ROUGE-L F-measure.
    """

    index: int
    code: str
    nearest_id: str
    nearest_text: str | None
    score: float | None


class RefusedTasksError(Exception):
    """Raised when tasks are refused and none of the request is to be stored."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__(f"{len(refusals)} seed tasks are refused")
        self.refusals = tuple(refusals)


class SeedPool:
    """The pool; may be used from several threads."""

    def __init__(self, database: ServiceDatabase, settings: NoveltySettings) -> None:
        self._database = database
        self._settings = settings
        self._lock = threading.Lock()
        self._read()
        if len(self._index) >= TREE_FROM // 4:
            # What the first large pool would wait for: compiling, or loading what was compiled.
            threading.Thread(target=warm_up, name="novelty warm-up", daemon=True).start()

    def __len__(self) -> int:
        """Tasks that are not retracted."""
        return len(self._entries)

    def submit(
        self,
        tasks: Sequence[SeedTask],
        owner: str,
        identity: Identity | None,
        make_answer: Callable[[Sequence[PoolTask], Sequence[Refusal]], Answer],
        *,
        skip: bool,
    ) -> tuple[Answer, bool]:
        """Store tasks, durably; returns the answer and whether it is that of an earlier request.

        A task with an empty id is given one.

        Args:
            make_answer: from what was stored and what was skipped.
            skip: leave refused tasks out instead of refusing all.

        Raises:
            RefusedTasksError: a task is refused and `skip` is off; nothing is stored.
            ReusedKeyError: the idempotency key stands for another request.
            ServiceDatabaseError: the database cannot be written.
        """
        named = [task if task.id else replace(task, id=f"st_{token_hex(8)}") for task in tasks]
        with self._lock:
            joined: list[tuple[int, SeedTask]] = []
            try:
                with self._database.transaction() as connection:
                    earlier = find_answer(connection, identity)
                    if earlier is not None:
                        return earlier, True
                    taken = known_ids(connection, [task.id for task in named])
                    refusals = self._admit(named, taken, joined)
                    if refusals and not skip:
                        raise RefusedTasksError(refusals)
                    fresh = [task for _, task in joined]
                    stored = insert_tasks(connection, fresh, owner) if fresh else []
                    answer = make_answer(stored, refusals)
                    remember(connection, identity, answer)
            except RefusedTasksError:
                for entry, task in joined:
                    self._leave(entry, task)
                self._tidy()
                raise
            except BaseException:
                self._read()  # whatever had come into the index is not in the database
                raise
        return answer, False

    def retract(self, task: SeedTask) -> None:
        """Take a task out of the pool; its text may be submitted again."""
        with self._lock:
            with self._database.transaction() as connection:
                retract_task(connection, task.id)
            entry = self._entries.get(task.id)
            if entry is not None:
                self._leave(entry, task)

    def _read(self) -> None:
        self._index = NoveltyIndex(
            self._settings.threshold, self._settings.at_threshold, self._settings.tokenizer
        )
        rows = list(active_texts(self._database))
        entries = self._index.add([text for _, text in rows])
        self._ids = {entry: task_id for entry, (task_id, _) in zip(entries, rows, strict=True)}
        self._entries = {task_id: entry for entry, task_id in self._ids.items()}
        self._texts = {text: task_id for task_id, text in rows}
        self._garbage = 0

    def _admit(
        self, tasks: Sequence[SeedTask], taken: set[str], joined: list[tuple[int, SeedTask]]
    ) -> list[Refusal]:
        """Judge tasks in sequence; those that are new join the index, and `joined`."""
        refusals: list[Refusal] = []
        waiting: list[tuple[int, SeedTask]] = []
        for number, task in enumerate(tasks):
            same = self._texts.get(task.instruction)
            if task.id in taken:
                refusals.append(Refusal(number, "seed_task_id_taken", task.id, None, None))
            elif same is not None:
                refusals.append(Refusal(number, "duplicate", same, task.instruction, 1.0))
            else:
                taken.add(task.id)
                self._texts[task.instruction] = task.id
                waiting.append((number, task))
        admissions = self._index.admit([task.instruction for _, task in waiting])
        for (_, task), admission in zip(waiting, admissions, strict=True):
            if admission.entry is not None:
                self._ids[admission.entry] = task.id
                self._entries[task.id] = admission.entry
                joined.append((admission.entry, task))
            else:
                del self._texts[task.instruction]
        refused = [pair for pair, found in zip(waiting, admissions, strict=True)
                   if found.entry is None]  # fmt: skip
        # All that keep it out are as near as the threshold or nearer; people want the nearest.
        nearest = self._index.nearest([task.instruction for _, task in refused], 1)
        for (number, _), found in zip(refused, nearest, strict=True):
            near = found[0]
            refusals.append(
                Refusal(number, "near_duplicate", self._ids[near.entry], near.text, near.score)
            )
        # The same text again names what keeps the first one out, which is not stored itself.
        why = {tasks[refusal.index].id: refusal for refusal in refusals
               if refusal.code == "near_duplicate"}  # fmt: skip
        refusals = [
            replace(why[refusal.nearest_id], index=refusal.index)
            if refusal.code == "duplicate" and refusal.nearest_id in why
            else refusal
            for refusal in refusals
        ]
        return sorted(refusals, key=lambda refusal: refusal.index)

    def _leave(self, entry: int, task: SeedTask) -> None:
        self._index.retract(entry)
        self._ids.pop(entry, None)
        self._entries.pop(task.id, None)
        self._texts.pop(task.instruction, None)
        self._garbage += 1

    def _tidy(self) -> None:
        """The index keeps the text of what has left it: made again when that is most of it."""
        if self._garbage > max(_MOST_GARBAGE, len(self)):
            self._read()
