"""Seed tasks and seed sets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from api.models.common import NameText, Sent, Shown, TaskId
from pipeline.records import Instance, SeedTask
from store.service.seed_sets import SeedSet
from store.service.seed_tasks import PoolTask

_Filled = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]


class InstanceBody(Sent):
    """One (input, output) pair."""

    input: str = ""
    """Empty where none is needed."""
    output: _Filled


class SeedTaskBody(Sent):
    """A seed task as it is submitted, in the schema of Self-Instruct's released seeds."""

    id: TaskId | None = None
    """Left out: the service gives one."""
    name: _Filled
    """A short name."""
    instruction: _Filled
    instances: list[InstanceBody] = Field(min_length=1, max_length=100)
    is_classification: bool
    """Whether it has a finite set of output labels."""

    def record(self) -> SeedTask:
        """As the pool takes it; an empty id is given one there."""
        instances = tuple(Instance(item.input, item.output) for item in self.instances)
        return SeedTask(
            self.id or "", self.name, self.instruction, instances, self.is_classification
        )


class InstanceView(Shown):
    """One (input, output) pair."""

    input: str
    output: str


class SeedTaskView(Shown):
    """A seed task in the pool."""

    id: str
    name: str
    instruction: str
    instances: list[InstanceView]
    is_classification: bool
    submitted_by: str
    """Id of the key that submitted it."""
    submitted_at: str
    retracted_at: str | None

    @classmethod
    def of(cls, item: PoolTask) -> SeedTaskView:
        """From the pool."""
        task = item.task
        return cls(
            id=task.id,
            name=task.name,
            instruction=task.instruction,
            instances=[InstanceView(input=one.input, output=one.output) for one in task.instances],
            is_classification=task.is_classification,
            submitted_by=item.submitted_by,
            submitted_at=item.submitted_at,
            retracted_at=item.retracted_at,
        )


class SkippedTask(Shown):
    """A task that was left out."""

    index: int
    """Its place in the request, from 0."""
    code: str
    """`duplicate`, `near_duplicate` or `seed_task_id_taken`."""
    nearest_id: str
    """The nearest seed task, which may be an earlier one of the same request."""
    nearest_instruction: str | None
    score: float | None
    """ROUGE-L F-measure of the two instructions."""


class Submission(Shown):
    """What became of submitted seed tasks."""

    stored: int
    ids: list[str]
    """Of what was stored, in the order sent."""
    skipped: list[SkippedTask]


class SeedTaskPage(Shown):
    """A page of seed tasks."""

    items: list[SeedTaskView]
    next_cursor: str | None
    """Send it as `cursor` for what comes after; null: this is the last page."""


class SeedSetFilter(Sent):
    """Which tasks of the pool; empty: all that are not retracted."""

    text: str | None = Field(default=None, min_length=1, max_length=1000)
    """Words of the instruction, in any case of letters."""
    is_classification: bool | None = None
    submitted_by: str | None = Field(default=None, max_length=64)
    """Id of the key that submitted them."""


class SeedSetBody(Sent):
    """A seed set to be made: the tasks named, or all that are not retracted; of these, where there is a
    filter, those that it finds at this moment."""

    name: NameText
    description: str = Field(default="", max_length=2000)
    seed_task_ids: list[TaskId] | None = Field(default=None, min_length=1, max_length=1000)
    filter: SeedSetFilter | None = None


class SeedSetView(Shown):
    """A named, unchanging selection of seed tasks."""

    name: str
    description: str
    created_by: str
    created_at: str
    size: int
    """Members."""
    active: int
    """Members that have not been retracted since: what a run starts from."""

    @classmethod
    def of(cls, item: SeedSet) -> SeedSetView:
        """From the database."""
        return cls(
            name=item.name, description=item.description, created_by=item.created_by,
            created_at=item.created_at, size=item.size, active=item.active,
        )  # fmt: skip


class SeedSetPage(Shown):
    """A page of seed sets."""

    items: list[SeedSetView]
    next_cursor: str | None
